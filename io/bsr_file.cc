#include "io/bsr_file.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"

namespace hew {
namespace {

constexpr const char* kCrow = "crow_indices";
constexpr const char* kCol = "col_indices";
constexpr const char* kValues = "values";
constexpr const char* kFormat = "format";
constexpr const char* kFormatName = "bsr";
// File-wide entry of the safetensors metadata.
constexpr const char* kMetadataVersion = "hew.bsr.version";

std::vector<std::int64_t> widen(const std::vector<std::int32_t>& indices) {
  return {indices.begin(), indices.end()};
}

// Where indices come from, for the text of errors.
struct Source {
  const std::string& file;
  const std::string& matrix;
  const char* indices;
};

std::vector<std::int32_t> narrow(const std::vector<std::int64_t>& indices, const Source& source) {
  std::vector<std::int32_t> narrowed;
  narrowed.reserve(indices.size());
  for (const std::int64_t index : indices) {
    require<DataError>(index >= 0 && index <= std::numeric_limits<std::int32_t>::max(),
                       "{}: matrix '{}': {}[{}] is {}, not a 32-bit index", source.file,
                       source.matrix, source.indices, narrowed.size(), index);
    narrowed.push_back(static_cast<std::int32_t>(index));
  }
  return narrowed;
}

ConstView view_of(const std::vector<std::int64_t>& values) {
  return {values.data(), {std::ssize(values)}, DType::kInt64, {}};
}

std::vector<std::int64_t> read_indices(const SafetensorsReader& reader, const std::string& name,
                                       const char* indices) {
  const std::string full_name = fmt::format("{}.{}", name, indices);
  require<DataError>(
      reader.dtype(full_name) == DType::kInt64 && reader.shape(full_name).rank() == 1,
      "{}: tensor '{}' is {} {}, expected 1-D int64", reader.file(), full_name,
      name_of(reader.dtype(full_name)), to_string(reader.shape(full_name)));
  return reader.read(full_name, make_cpu_stream()).to_vector<std::int64_t>();
}

const std::string& metadata_of(const SafetensorsReader& reader, const std::string& key) {
  const auto found = reader.metadata().find(key);
  require<DataError>(found != reader.metadata().end(), "{}: metadata '{}' is missing",
                     reader.file(), key);
  return found->second;
}

// The integers of "[3072, 768]" or "16".
std::vector<std::int64_t> metadata_integers(const SafetensorsReader& reader, const std::string& key,
                                            std::size_t count) {
  const std::string& text = metadata_of(reader, key);
  std::vector<std::int64_t> values;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    std::int64_t value = 0;
    const auto [next, code] = std::from_chars(at, end, value);
    if (code == std::errc())
      values.push_back(value);
    at = next == at ? at + 1 : next;
  }
  require<DataError>(values.size() == count, "{}: metadata '{}' is '{}', expected {} integer(s)",
                     reader.file(), key, text, count);
  return values;
}

}  // namespace

void write_bsr(H5Writer& writer, const BsrRecord& record) {
  check_bsr(record, writer.file());
  writer.write(fmt::format("{}/{}", record.name, kCrow), widen(record.crow_indices));
  writer.write(fmt::format("{}/{}", record.name, kCol), widen(record.col_indices));
  writer.write(fmt::format("{}/{}", record.name, kValues), record.values);
  writer.attribute(record.name, kFormat, kFormatName);
  writer.attribute(record.name, "rows", record.rows);
  writer.attribute(record.name, "cols", record.cols);
  writer.attribute(record.name, "block", record.block);
}

BsrRecord read_bsr(const H5Reader& reader, const std::string& name, const Stream& stream) {
  require<DataError>(is_bsr(reader, name), "{}: '{}' is not a block-sparse matrix", reader.file(),
                     name);
  const auto indices = [&](const char* which) {
    return narrow(reader.read_vector<std::int64_t>(fmt::format("{}/{}", name, which)),
                  {reader.file(), name, which});
  };
  BsrRecord record{.name = name,
                   .rows = reader.attribute_int(name, "rows"),
                   .cols = reader.attribute_int(name, "cols"),
                   .block = reader.attribute_int(name, "block"),
                   .crow_indices = indices(kCrow),
                   .col_indices = indices(kCol),
                   .values = reader.read(fmt::format("{}/{}", name, kValues), stream)};
  check_bsr(record, reader.file());
  return record;
}

bool is_bsr(const H5Reader& reader, const std::string& name) {
  return reader.exists(name) && reader.has_attribute(name, kFormat) &&
         reader.attribute_string(name, kFormat) == kFormatName;
}

std::vector<std::string> list_bsr(const H5Reader& reader) {
  std::vector<std::string> names = reader.list("/");
  std::erase_if(names, [&](const std::string& name) { return !is_bsr(reader, name); });
  return names;
}

void declare_bsr(const BsrRecord& record, std::vector<TensorSpec>& tensors,
                 SafetensorsMetadata& metadata) {
  const auto add = [&](const char* part, DType dtype, const Shape& shape) {
    tensors.push_back({fmt::format("{}.{}", record.name, part), dtype, shape});
  };
  add(kCrow, DType::kInt64, {std::ssize(record.crow_indices)});
  add(kCol, DType::kInt64, {std::ssize(record.col_indices)});
  add(kValues, record.values.dtype(), record.values.shape());
  metadata[record.name + ".shape"] = to_string(Shape{record.rows, record.cols});
  metadata[record.name + ".block"] = std::to_string(record.block);
  metadata[kMetadataVersion] = std::to_string(kBsrVersion);
}

void write_bsr(SafetensorsWriter& writer, const BsrRecord& record) {
  check_bsr(record, writer.file());
  const std::vector<std::int64_t> crow = widen(record.crow_indices);
  const std::vector<std::int64_t> col = widen(record.col_indices);
  writer.write(fmt::format("{}.{}", record.name, kCrow), view_of(crow));
  writer.write(fmt::format("{}.{}", record.name, kCol), view_of(col));
  writer.write(fmt::format("{}.{}", record.name, kValues), record.values);
}

BsrRecord read_bsr(const SafetensorsReader& reader, const std::string& name, const Stream& stream) {
  const std::int64_t version = metadata_integers(reader, kMetadataVersion, 1)[0];
  require<DataError>(version <= kBsrVersion,
                     "{}: written by a newer hew (bsr version {}, this one reads up to {})",
                     reader.file(), version, kBsrVersion);
  const auto shape = metadata_integers(reader, name + ".shape", 2);
  const auto indices = [&](const char* which) {
    return narrow(read_indices(reader, name, which), {reader.file(), name, which});
  };
  BsrRecord record{.name = name,
                   .rows = shape[0],
                   .cols = shape[1],
                   .block = metadata_integers(reader, name + ".block", 1)[0],
                   .crow_indices = indices(kCrow),
                   .col_indices = indices(kCol),
                   .values = reader.read(fmt::format("{}.{}", name, kValues), stream)};
  check_bsr(record, reader.file());
  return record;
}

std::vector<std::string> list_bsr(const SafetensorsReader& reader) {
  const std::string suffix = fmt::format(".{}", kCrow);
  std::vector<std::string> names;
  for (const std::string& name : reader.names()) {
    if (name.ends_with(suffix))
      names.push_back(name.substr(0, name.size() - suffix.size()));
  }
  return names;
}

}  // namespace hew
