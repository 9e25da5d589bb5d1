#include "io/hdf5_sink.h"

#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h>  // HDF5 1.14 keeps H5FD_class_t there
#endif

#include <algorithm>
#include <limits>
#include <new>

namespace hew::h5 {
namespace {

struct SinkFile : H5FD_t {
  Sink* sink = nullptr;
  haddr_t allocated = 0;  // HDF5's end of addresses
  haddr_t end = 0;        // of what was written
};

struct Access {
  Sink* sink;
};

SinkFile* cast(H5FD_t* file) {
  return static_cast<SinkFile*>(file);
}
const SinkFile* cast(const H5FD_t* file) {
  return static_cast<const SinkFile*>(file);
}

template <class Action>
void attempt(Sink& sink, const Action& action) noexcept {
  if (sink.discard)
    return;
  try {
    action(*sink.file);
  } catch (...) {
    sink.failure = std::current_exception();
    sink.discard = true;
  }
}

H5FD_t* open(const char* /*name*/, unsigned /*flags*/, hid_t access, haddr_t /*last*/) {
  auto* file = new (std::nothrow) SinkFile{};
  if (file != nullptr)
    file->sink = static_cast<const Access*>(H5Pget_driver_info(access))->sink;
  return file;
}

herr_t close(H5FD_t* file) {
  delete cast(file);
  return 0;
}

herr_t query(const H5FD_t* /*file*/, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_allocated(const H5FD_t* file, H5FD_mem_t /*kind*/) {
  return cast(file)->allocated;
}

herr_t set_allocated(H5FD_t* file, H5FD_mem_t /*kind*/, haddr_t address) {
  cast(file)->allocated = address;
  return 0;
}

haddr_t get_end(const H5FD_t* file, H5FD_mem_t /*kind*/) {
  return cast(file)->end;
}

herr_t read(H5FD_t* file, H5FD_mem_t /*kind*/, hid_t /*transfer*/, haddr_t address, size_t size,
            void* out) {
  const std::span bytes(static_cast<std::byte*>(out), size);
  if (cast(file)->sink->discard)
    std::ranges::fill(bytes, std::byte{0});
  attempt(*cast(file)->sink,
          [&](AtomicFile& to) { to.read_back(static_cast<std::int64_t>(address), bytes); });
  return 0;
}

herr_t write(H5FD_t* file, H5FD_mem_t /*kind*/, hid_t /*transfer*/, haddr_t address, size_t size,
             const void* data) {
  attempt(*cast(file)->sink, [&](AtomicFile& to) {
    to.write_at(static_cast<std::int64_t>(address), {static_cast<const std::byte*>(data), size});
  });
  cast(file)->end = std::max(cast(file)->end, address + size);
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t /*transfer*/, hbool_t /*closing*/) {
  SinkFile& self = *cast(file);
  if (self.end == self.allocated)
    return 0;
  attempt(*self.sink,
          [&](AtomicFile& to) { to.resize(static_cast<std::int64_t>(self.allocated)); });
  self.end = self.allocated;
  return 0;
}

// A template, so that the members that only newer HDF5 has are looked up only there.
template <class Class>
Class make_driver() {
  constexpr int kDriverNumber = 300;  // 256…511 are free for private drivers
  Class driver{};
  if constexpr (requires { driver.version; })
    driver.version = 1;
  if constexpr (requires { driver.value; })
    driver.value = kDriverNumber;
  driver.name = "hew_sink";
  driver.maxaddr = static_cast<haddr_t>(std::numeric_limits<std::int64_t>::max());
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Access);
  driver.open = open;
  driver.close = close;
  driver.query = query;
  driver.get_eoa = get_allocated;
  driver.set_eoa = set_allocated;
  driver.get_eof = get_end;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  std::ranges::fill(driver.fl_map, H5FD_MEM_SUPER);  // one free list for all kinds
  return driver;
}

// A cache that never evicts never reads back what a full disk may have swallowed.
herr_t keep_metadata(hid_t access) {
  H5AC_cache_config_t config{};
  config.version = H5AC__CURR_CACHE_CONFIG_VERSION;
  if (H5Pget_mdc_config(access, &config) < 0)
    return -1;
  config.evictions_enabled = false;
  config.incr_mode = H5C_incr__off;
  config.flash_incr_mode = H5C_flash_incr__off;
  config.decr_mode = H5C_decr__off;
  return H5Pset_mdc_config(access, &config);
}

}  // namespace

Properties make_sink_access(Sink& sink) {
  const auto driver = make_driver<H5FD_class_t>();
  const UniqueHandle<IdTraits<H5FDunregister>> id(H5FDregister(&driver));
  Properties access(H5Pcreate(H5P_FILE_ACCESS));
  const Access info{&sink};
  const bool made = id && access && H5Pset_driver(access.get(), id.get(), &info) >= 0 &&
                    keep_metadata(access.get()) >= 0;
  if (!made)
    throw BackendError("H5Pset_driver", -1, "HDF5 refused the file driver");
  return access;
}

}  // namespace hew::h5
