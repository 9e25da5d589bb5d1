#include <algorithm>
#include <vector>

#include "core/memory.h"
#include "io/atomic_file.h"
#include "io/hdf5.h"
#include "io/hdf5_attribute.h"
#include "io/hdf5_calls.h"
#include "io/seal.h"

namespace hew {
namespace {

using h5::check;
using h5::Place;
using h5::Space;
using h5::Type;

h5::File open_file(const std::filesystem::path& path, const std::string& name) {
  const Place place{name, "file", name};
  const h5::Properties access(check(H5Pcreate(H5P_FILE_ACCESS), place));
  // Sealed files never change, and some network file systems cannot lock.
  check(H5Pset_file_locking(access.get(), /*use=*/false, /*ignore_when_disabled=*/true), place);
  check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), place);
  return h5::File(check(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), place));
}

// H5Lexists fails where a group on the way is missing; that too means "no".
bool link_exists(hid_t file, const std::string& name) {
  return name == "/" || H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0;
}

h5::Object open_object(hid_t file, const std::string& object, const Place& place) {
  require<DataError>(link_exists(file, object), "{}: there is no '{}'", place.file, object);
  return h5::Object(check(H5Oopen(file, object.c_str(), H5P_DEFAULT), place));
}

Shape shape_of(const h5::Dataset& dataset, const Place& place) {
  const Space space(check(H5Dget_space(dataset.get()), place));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), place);
  require<DataError>(rank <= Shape::kMaxRank, "{}: {} '{}' has rank {}, at most {} is expected",
                     place.file, place.what, place.name, rank, Shape::kMaxRank);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), place);
  return Shape(std::vector<std::int64_t>(extents.begin(), extents.end()));
}

DType dtype_of(const h5::Dataset& dataset, const Place& place) {
  const Type type(check(H5Dget_type(dataset.get()), place));
  const hid_t id = type.get();
  if (H5Aexists(dataset.get(), h5::kDtypeAttribute) > 0 && H5Tequal(id, H5T_STD_U16LE) > 0) {
    const std::string attribute = h5::kDtypeAttribute;
    const H5Attribute value =
        h5::get_attribute(dataset.get(), {place.file, "attribute", attribute});
    if (value == H5Attribute(std::string(name_of(DType::kBFloat16))))
      return DType::kBFloat16;
  } else {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64,
                              DType::kUInt16, DType::kUInt8}) {
      if (H5Tequal(id, h5::file_type(dtype)) > 0)
        return dtype;
    }
  }
  throw DataError(fmt::format("{}: {} '{}' is of a type that hew does not read", place.file,
                              place.what, place.name));
}

template <class T>
T expect(const H5Attribute& value, const Place& place, std::string_view wanted) {
  const T* found = std::get_if<T>(&value);
  require<DataError>(found != nullptr, "{}: {} '{}' is not {}", place.file, place.what, place.name,
                     wanted);
  return *found;
}

constexpr const char* kDataset = "dataset";
constexpr const char* kAttribute = "attribute";

}  // namespace

struct H5Reader::Impl {
  explicit Impl(std::string file_name) : name(std::move(file_name)) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    const h5::Session session;
    file.reset();
  }

  h5::Dataset open_dataset(const std::string& dataset) const {
    require<DataError>(link_exists(file.get(), dataset), "{}: there is no dataset '{}'", name,
                       dataset);
    return h5::Dataset(
        check(H5Dopen2(file.get(), dataset.c_str(), H5P_DEFAULT), {name, kDataset, dataset}));
  }
  void require_dtype(const h5::Dataset& dataset, DType wanted, const Place& place) const {
    const DType found = dtype_of(dataset, place);
    require<DataError>(found == wanted, "{}: dataset '{}' is {}, expected {}", name, place.name,
                       name_of(found), name_of(wanted));
  }

  // HDF5 takes what is missing of a file that was cut since it was opened for zeros.
  void require_whole() const {
    const std::int64_t size = size_of_file(bytes, name);
    require<DataError>(size >= opened_size, "{}: truncated, {} of {} bytes are there", name, size,
                       opened_size);
  }

  std::string name;
  h5::File file;
  FileDescriptor bytes;  // of the same file
  std::int64_t opened_size = 0;
  std::string kind;
  std::int64_t version = 0;
};

H5Reader::H5Reader(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>(path.string())) {
  verify_seal(path);
  {
    const h5::Session session;
    impl_->file = open_file(path, impl_->name);
  }
  impl_->bytes = open_to_read(path);
  impl_->opened_size = size_of_file(impl_->bytes, path);
  impl_->kind = attribute_string("/", "kind");
  impl_->version = attribute_int("/", "version");
}

H5Reader::H5Reader(const std::filesystem::path& path, std::string_view kind, int max_version)
    : H5Reader(path) {
  require_kind(kind, max_version);
}

void H5Reader::require_kind(std::string_view kind, int max_version) const {
  require<DataError>(impl_->kind == kind, "{}: holds '{}', expected '{}'", impl_->name, impl_->kind,
                     kind);
  require<DataError>(impl_->version <= max_version,
                     "{}: written by a newer hew ({} version {}, this one reads up to {})",
                     impl_->name, kind, impl_->version, max_version);
  require<DataError>(impl_->version >= 1, "{}: {} version {} does not exist", impl_->name, kind,
                     impl_->version);
}

H5Reader::H5Reader(H5Reader&& other) noexcept = default;
H5Reader::~H5Reader() = default;

const std::string& H5Reader::file() const {
  return impl_->name;
}
const std::string& H5Reader::kind() const {
  return impl_->kind;
}
int H5Reader::version() const {
  return static_cast<int>(impl_->version);
}

bool H5Reader::exists(const std::string& name) const {
  const h5::Session session;
  return link_exists(impl_->file.get(), name);
}

bool H5Reader::is_dataset(const std::string& name) const {
  const h5::Session session;
  if (!link_exists(impl_->file.get(), name))
    return false;
  const h5::Object object = open_object(impl_->file.get(), name, {impl_->name, kDataset, name});
  return H5Iget_type(object.get()) == H5I_DATASET;
}

Shape H5Reader::shape(const std::string& name) const {
  const h5::Session session;
  return shape_of(impl_->open_dataset(name), {impl_->name, kDataset, name});
}

DType H5Reader::dtype(const std::string& name) const {
  const h5::Session session;
  return dtype_of(impl_->open_dataset(name), {impl_->name, kDataset, name});
}

std::vector<std::string> H5Reader::list(const std::string& group) const {
  const h5::Session session;
  const Place place{impl_->name, "group", group};
  const h5::Object object = open_object(impl_->file.get(), group, place);
  H5G_info_t info{};
  check(H5Gget_info(object.get(), &info), place);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const auto name_at = [&](char* out, std::size_t size) {
      return check(H5Lget_name_by_idx(object.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, out, size,
                                      H5P_DEFAULT),
                   place);
    };
    std::string name(static_cast<std::size_t>(name_at(nullptr, 0)), '\0');
    name_at(name.data(), name.size() + 1);
    names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

Tensor H5Reader::read(const std::string& name, const Stream& stream) const {
  Tensor out = Tensor::empty(shape(name), dtype(name), stream);
  if (stream.device.is_cpu()) {
    read_into(name, out.view().data, out.dtype());
    return out;
  }
  std::vector<std::byte> host(static_cast<std::size_t>(out.nbytes()));
  read_into(name, host.data(), out.dtype());
  copy_memory(out.view().data, out.device(), host.data(), Device{}, out.nbytes(), stream);
  return out;
}

void H5Reader::read_into(const std::string& name, void* out, DType dtype) const {
  const h5::Session session;
  const Place place{impl_->name, kDataset, name};
  const h5::Dataset dataset = impl_->open_dataset(name);
  impl_->require_dtype(dataset, dtype, place);
  if (shape_of(dataset, place).numel() == 0)
    return;
  impl_->require_whole();
  check(H5Dread(dataset.get(), h5::memory_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, out), place);
}

void H5Reader::read_range_into(const std::string& name, std::int64_t begin, std::int64_t count,
                               void* out, DType dtype) const {
  const h5::Session session;
  const Place place{impl_->name, kDataset, name};
  const h5::Dataset dataset = impl_->open_dataset(name);
  impl_->require_dtype(dataset, dtype, place);
  const Shape shape = shape_of(dataset, place);
  require<DataError>(
      shape.rank() == 1 && begin >= 0 && begin <= shape[0] && count <= shape[0] - begin,
      "{}: dataset '{}' of shape {} has no elements {} to {}", impl_->name, name, to_string(shape),
      begin, begin + count);
  if (count == 0)
    return;
  impl_->require_whole();
  const auto first = static_cast<hsize_t>(begin);
  const auto size = static_cast<hsize_t>(count);
  const Space space(check(H5Dget_space(dataset.get()), place));
  check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &first, nullptr, &size, nullptr), place);
  const Space memory(check(H5Screate_simple(1, &size, nullptr), place));
  check(H5Dread(dataset.get(), h5::memory_type(dtype), memory.get(), space.get(), H5P_DEFAULT, out),
        place);
}

bool H5Reader::has_attribute(const std::string& object, const std::string& name) const {
  const h5::Session session;
  const h5::Object target = open_object(impl_->file.get(), object, {impl_->name, "object", object});
  return H5Aexists(target.get(), name.c_str()) > 0;
}

H5Attribute H5Reader::attribute(const std::string& object, const std::string& name) const {
  const h5::Session session;
  const Place place{impl_->name, kAttribute, name};
  return h5::get_attribute(open_object(impl_->file.get(), object, place).get(), place);
}

std::string H5Reader::attribute_string(const std::string& object, const std::string& name) const {
  return expect<std::string>(attribute(object, name), {impl_->name, kAttribute, name}, "text");
}

std::int64_t H5Reader::attribute_int(const std::string& object, const std::string& name) const {
  return expect<std::int64_t>(attribute(object, name), {impl_->name, kAttribute, name},
                              "an integer");
}

double H5Reader::attribute_double(const std::string& object, const std::string& name) const {
  return expect<double>(attribute(object, name), {impl_->name, kAttribute, name},
                        "a floating-point number");
}

bool H5Reader::attribute_bool(const std::string& object, const std::string& name) const {
  return expect<bool>(attribute(object, name), {impl_->name, kAttribute, name}, "true or false");
}

}  // namespace hew
