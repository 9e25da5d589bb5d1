#include <array>
#include <vector>

#include "core/memory.h"
#include "io/hdf5.h"
#include "io/hdf5_attribute.h"
#include "io/hdf5_calls.h"
#include "io/hdf5_sink.h"
#include "io/seal.h"

namespace hew {
namespace {

using h5::check;
using h5::Place;
using h5::Properties;
using h5::Space;

constexpr hsize_t kChunkElements = 65536;

Space make_space(const Shape& shape, const Place& place) {
  if (shape.rank() == 0)
    return Space(check(H5Screate(H5S_SCALAR), place));
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  return Space(check(H5Screate_simple(shape.rank(), extents.data(), nullptr), place));
}

// Without times of creation, so that equal content gives equal bytes.
Properties make_object_properties(hid_t kind, const Place& place) {
  Properties properties(check(H5Pcreate(kind), place));
  check(H5Pset_obj_track_times(properties.get(), false), place);
  return properties;
}

Properties make_link_properties(const Place& place) {
  Properties properties(check(H5Pcreate(H5P_LINK_CREATE), place));
  check(H5Pset_create_intermediate_group(properties.get(), 1), place);
  return properties;
}

}  // namespace

struct H5Writer::Impl {
  explicit Impl(const std::filesystem::path& path) : target(path) { sink.file = &target; }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    const h5::Session session;
    sink.discard = true;
    file.reset();
  }

  void open();
  h5::Dataset create(const std::string& full_name, DType dtype, const Properties& properties,
                     const Space& space);
  void write(const std::string& full_name, const ConstView& values);
  void append(const std::string& full_name, const ConstView& values);
  h5::Object open_or_make_group(const std::string& object);
  void require_open() const {
    require<DataError>(static_cast<bool>(file), "{}: already committed", name);
  }

  AtomicFile target;
  std::string name = target.path().string();
  h5::Sink sink;
  h5::File file;
};

void H5Writer::Impl::open() {
  const Place place{name, "file", name};
  const Properties access = h5::make_sink_access(sink);
  const Properties creation = make_object_properties(H5P_FILE_CREATE, place);
  check(H5Pset_userblock(creation.get(), static_cast<hsize_t>(kSealBytes)), place);
  file = h5::File(check(
      H5Fcreate(target.temporary().c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), place));
}

h5::Dataset H5Writer::Impl::create(const std::string& full_name, DType dtype,
                                   const Properties& properties, const Space& space) {
  const Place place{name, "cannot make dataset", full_name};
  h5::Dataset dataset(
      check(H5Dcreate2(file.get(), full_name.c_str(), h5::file_type(dtype), space.get(),
                       make_link_properties(place).get(), properties.get(), H5P_DEFAULT),
            place));
  if (dtype == DType::kBFloat16) {
    const std::string attribute = h5::kDtypeAttribute;
    h5::set_attribute(dataset.get(), std::string(name_of(dtype)), {name, "attribute", attribute});
  }
  return dataset;
}

void H5Writer::Impl::write(const std::string& full_name, const ConstView& values) {
  const Place place{name, "cannot write dataset", full_name};
  const Properties properties = make_object_properties(H5P_DATASET_CREATE, place);
  const h5::Dataset dataset =
      create(full_name, values.dtype, properties, make_space(values.shape, place));
  if (values.numel() > 0) {
    check(H5Dwrite(dataset.get(), h5::memory_type(values.dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   values.data),
          place);
  }
}

void H5Writer::Impl::append(const std::string& full_name, const ConstView& values) {
  const Place place{name, "cannot append to dataset", full_name};
  h5::Dataset dataset;
  hsize_t old_size = 0;
  if (H5Lexists(file.get(), full_name.c_str(), H5P_DEFAULT) > 0) {
    dataset = h5::Dataset(check(H5Dopen2(file.get(), full_name.c_str(), H5P_DEFAULT), place));
    const Space space(check(H5Dget_space(dataset.get()), place));
    const h5::Type type(check(H5Dget_type(dataset.get()), place));
    require<DataError>(H5Sget_simple_extent_ndims(space.get()) == 1 &&
                           H5Tequal(type.get(), h5::file_type(values.dtype)) > 0,
                       "{}: {} '{}': it is not 1-D {}", name, place.what, full_name,
                       name_of(values.dtype));
    check(H5Sget_simple_extent_dims(space.get(), &old_size, nullptr), place);
  } else {
    const hsize_t unlimited = H5S_UNLIMITED;
    const Properties properties = make_object_properties(H5P_DATASET_CREATE, place);
    check(H5Pset_chunk(properties.get(), 1, &kChunkElements), place);
    const Space space(check(H5Screate_simple(1, &old_size, &unlimited), place));
    dataset = create(full_name, values.dtype, properties, space);
  }
  const auto count = static_cast<hsize_t>(values.numel());
  if (count == 0)
    return;
  const hsize_t new_size = old_size + count;
  check(H5Dset_extent(dataset.get(), &new_size), place);
  const Space space(check(H5Dget_space(dataset.get()), place));
  check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &old_size, nullptr, &count, nullptr),
        place);
  const Space memory(check(H5Screate_simple(1, &count, nullptr), place));
  check(H5Dwrite(dataset.get(), h5::memory_type(values.dtype), memory.get(), space.get(),
                 H5P_DEFAULT, values.data),
        place);
}

h5::Object H5Writer::Impl::open_or_make_group(const std::string& object) {
  const Place place{name, "cannot make group", object};
  if (object != "/" && H5Lexists(file.get(), object.c_str(), H5P_DEFAULT) <= 0) {
    return h5::Object(check(H5Gcreate2(file.get(), object.c_str(),
                                       make_link_properties(place).get(), H5P_DEFAULT, H5P_DEFAULT),
                            place));
  }
  return h5::Object(check(H5Oopen(file.get(), object.c_str(), H5P_DEFAULT), place));
}

H5Writer::H5Writer(const std::filesystem::path& path, std::string_view kind, int version)
    : impl_(std::make_unique<Impl>(path)) {
  {
    const h5::Session session;
    impl_->open();
    impl_->sink.rethrow();
  }
  attribute("/", "kind", std::string(kind));
  attribute("/", "version", std::int64_t{version});
}

H5Writer::H5Writer(H5Writer&& other) noexcept = default;
H5Writer::~H5Writer() = default;

const std::string& H5Writer::file() const {
  return impl_->name;
}

void H5Writer::write(const std::string& name, const ConstView& values) {
  impl_->require_open();
  require<DataError>(values.device.is_cpu() && (values || values.numel() == 0),
                     "{}: dataset '{}' is not in host memory", impl_->name, name);
  {
    const h5::Session session;
    impl_->write(name, values);
  }
  impl_->sink.rethrow();
}

void H5Writer::write(const std::string& name, const Tensor& values) {
  if (values.device().is_cpu())
    return write(name, values.view());
  std::vector<std::byte> host(static_cast<std::size_t>(values.nbytes()));
  copy_memory(host.data(), Device{}, values.view().data, values.device(), values.nbytes(),
              values.stream());
  write(name, ConstView{host.data(), values.shape(), values.dtype(), {}});
}

void H5Writer::append(const std::string& name, const ConstView& values) {
  impl_->require_open();
  require<DataError>(values.device.is_cpu() && values.shape.rank() == 1,
                     "{}: dataset '{}' grows by 1-D values in host memory, got shape {}",
                     impl_->name, name, to_string(values.shape));
  {
    const h5::Session session;
    impl_->append(name, values);
  }
  impl_->sink.rethrow();
}

void H5Writer::attribute(const std::string& object, const std::string& name,
                         const H5Attribute& value) {
  impl_->require_open();
  {
    const h5::Session session;
    const h5::Object target = impl_->open_or_make_group(object);
    h5::set_attribute(target.get(), value, {impl_->name, "cannot write attribute", name});
  }
  impl_->sink.rethrow();
}

void H5Writer::commit() {
  impl_->require_open();
  impl_->sink.rethrow();
  {
    const h5::Session session;
    check(H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL), {impl_->name, "file", impl_->name});
    impl_->file.reset();
  }
  impl_->sink.rethrow();
  seal(impl_->target);
  impl_->target.commit();
}

}  // namespace hew
