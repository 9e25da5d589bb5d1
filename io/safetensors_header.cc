#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"

namespace hew {
namespace {

using nlohmann::json;

struct DtypeName {
  DType dtype;
  std::string_view name;
};

// Of two names of a dtype the first is written.
constexpr std::array<DtypeName, 9> kNames{{{DType::kFloat32, "F32"},
                                           {DType::kFloat64, "F64"},
                                           {DType::kBFloat16, "BF16"},
                                           {DType::kInt32, "I32"},
                                           {DType::kInt64, "I64"},
                                           {DType::kUInt16, "U16"},
                                           {DType::kUInt8, "U8"},
                                           {DType::kFloat32, "F16"},
                                           {DType::kUInt8, "BOOL"}}};
constexpr std::string_view kHalf = "F16";
constexpr std::int64_t kHalfBytes = 2;
constexpr const char* kMetadata = "__metadata__";
constexpr std::size_t kAlignment = 8;

std::string_view safetensors_name(DType dtype) {
  return std::ranges::find(kNames, dtype, &DtypeName::dtype)->name;
}

// Where an error is.
struct Entry {
  const std::string& file;
  const std::string& tensor;
};

// nlohmann-json keeps the last of two equal keys; a file that has two is ambiguous.
json parse_strictly(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start)
      keys.emplace_back();
    if (event == json::parse_event_t::object_end)
      keys.pop_back();
    if (event == json::parse_event_t::key) {
      require<DataError>(keys.back().insert(value.get<std::string>()).second,
                         "{}: the header has '{}' twice", file, value.get<std::string>());
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: the header is not JSON: {}", file, error.what()));
  }
}

DType parse_safetensors_dtype(const json& value, const Entry& where) {
  const auto* found = value.is_string()
                          ? std::ranges::find(kNames, value.get<std::string>(), &DtypeName::name)
                          : kNames.end();
  require<DataError>(found != kNames.end(), "{}: tensor '{}' has dtype {}, which hew does not read",
                     where.file, where.tensor, value.dump());
  return found->dtype;
}

std::vector<std::int64_t> parse_sizes(const json& value, const char* what, const Entry& where) {
  bool ok = value.is_array();
  std::vector<std::int64_t> sizes;
  for (const json& item : ok ? value : json::array()) {
    ok = ok && item.is_number_unsigned() &&
         item.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max();
    if (ok)
      sizes.push_back(item.get<std::int64_t>());
  }
  require<DataError>(ok, "{}: tensor '{}' has {} {}", where.file, where.tensor, what,
                     value.dump(-1, ' ', false, json::error_handler_t::replace));
  return sizes;
}

// Bytes that shape and dtype ask for; an overflow is an error, since the file is not trusted.
std::int64_t count_bytes(const TensorExtent& extent, const Entry& where) {
  std::int64_t bytes = extent.half ? kHalfBytes : size_of(extent.dtype);
  for (const std::int64_t size : extent.shape) {
    require<DataError>(!__builtin_mul_overflow(bytes, size, &bytes),
                       "{}: tensor '{}' of shape {} is too large", where.file, where.tensor,
                       to_string(extent.shape));
  }
  return bytes;
}

TensorExtent parse_tensor(const json& value, const Entry& where) {
  require<DataError>(value.is_object() && value.size() == 3 && value.contains("dtype") &&
                         value.contains("shape") && value.contains("data_offsets"),
                     "{}: tensor '{}' does not have exactly dtype, shape and data_offsets",
                     where.file, where.tensor);
  const auto shape = parse_sizes(value["shape"], "shape", where);
  const auto offsets = parse_sizes(value["data_offsets"], "data_offsets", where);
  require<DataError>(shape.size() <= Shape::kMaxRank, "{}: tensor '{}' has rank {}, above {}",
                     where.file, where.tensor, shape.size(), Shape::kMaxRank);
  require<DataError>(offsets.size() == 2 && offsets[0] <= offsets[1],
                     "{}: tensor '{}' has data_offsets {}", where.file, where.tensor,
                     value["data_offsets"].dump());
  const TensorExtent extent{.dtype = parse_safetensors_dtype(value["dtype"], where),
                            .shape = Shape(shape),
                            .begin = offsets[0],
                            .end = offsets[1],
                            .half = value["dtype"] == kHalf};
  const std::int64_t wanted = count_bytes(extent, where);
  require<DataError>(extent.end - extent.begin == wanted,
                     "{}: tensor '{}' has {} bytes, its shape {} of {} needs {}", where.file,
                     where.tensor, extent.end - extent.begin, to_string(extent.shape),
                     extent.half ? "float16" : name_of(extent.dtype), wanted);
  return extent;
}

SafetensorsMetadata parse_metadata(const json& value, const std::string& file) {
  require<DataError>(value.is_object(), "{}: {} is not an object", file, kMetadata);
  SafetensorsMetadata metadata;
  for (const auto& [key, text] : value.items()) {
    require<DataError>(text.is_string(), "{}: {} '{}' is not a string", file, kMetadata, key);
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

// The tensors must fill [0, data_bytes) exactly.
void check_coverage(const std::map<std::string, TensorExtent>& tensors, std::int64_t data_bytes,
                    const std::string& file) {
  std::vector<std::pair<const TensorExtent*, const std::string*>> order;
  order.reserve(tensors.size());
  for (const auto& [name, extent] : tensors) order.emplace_back(&extent, &name);
  std::ranges::sort(order, {},
                    [](const auto& item) { return std::pair(item.first->begin, item.first->end); });
  std::int64_t covered = 0;
  for (const auto& [extent, name] : order) {
    require<DataError>(extent->begin >= covered, "{}: tensor '{}' overlaps another", file, *name);
    require<DataError>(extent->begin == covered, "{}: {} unused bytes before tensor '{}'", file,
                       extent->begin - covered, *name);
    require<DataError>(extent->end <= data_bytes,
                       "{}: truncated, tensor '{}' ends at byte {} of {}", file, *name, extent->end,
                       data_bytes);
    covered = extent->end;
  }
  require<DataError>(covered == data_bytes, "{}: {} bytes after the last tensor", file,
                     data_bytes - covered);
}

}  // namespace

SafetensorsHeader lay_out(std::span<const TensorSpec> tensors, const SafetensorsMetadata& metadata,
                          const std::string& file) {
  std::vector<const TensorSpec*> order;
  for (const TensorSpec& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const TensorSpec* tensor) {
    return std::pair(-size_of(tensor->dtype), std::string_view(tensor->name));
  });
  SafetensorsHeader header{.tensors = {}, .metadata = metadata};
  std::int64_t end = 0;
  for (const TensorSpec* tensor : order) {
    TensorExtent extent{.dtype = tensor->dtype, .shape = tensor->shape, .begin = end};
    end += count_bytes(extent, {file, tensor->name});
    extent.end = end;
    require<DataError>(tensor->name != kMetadata && !tensor->name.empty(),
                       "{}: a tensor cannot have the name '{}'", file, tensor->name);
    require<DataError>(header.tensors.emplace(tensor->name, extent).second,
                       "{}: tensor '{}' is there twice", file, tensor->name);
  }
  return header;
}

std::string render(const SafetensorsHeader& header, const std::string& file) {
  json object = json::object();
  if (!header.metadata.empty())
    object[kMetadata] = header.metadata;
  for (const auto& [name, extent] : header.tensors) {
    object[name] = {{"dtype", safetensors_name(extent.dtype)},
                    {"shape", std::vector<std::int64_t>(extent.shape.begin(), extent.shape.end())},
                    {"data_offsets", {extent.begin, extent.end}}};
  }
  std::string text;
  try {
    text = object.dump();
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: a name or text is not UTF-8: {}", file, error.what()));
  }
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

SafetensorsHeader parse_safetensors_header(std::string_view text, std::int64_t data_bytes,
                                           const std::string& file) {
  require<DataError>(text.starts_with('{'), "{}: not safetensors, the header is not an object",
                     file);
  const json object = parse_strictly(text, file);
  SafetensorsHeader header;
  for (const auto& [name, value] : object.items()) {
    if (name == kMetadata) {
      header.metadata = parse_metadata(value, file);
    } else {
      header.tensors[name] = parse_tensor(value, {file, name});
    }
  }
  check_coverage(header.tensors, data_bytes, file);
  return header;
}

}  // namespace hew
