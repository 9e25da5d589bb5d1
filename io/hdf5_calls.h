#pragma once

// What the HDF5 reader and writer share; nothing outside io/ includes this.

#include <hdf5.h>

#include <mutex>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/handle.h"
#include "core/shape.h"

namespace hew::h5 {

/// Held around every run of HDF5 calls, since HDF5 is one state per process and is not safe for
/// threads in every build: a prefetching reader may run beside a checkpoint writer. Also keeps HDF5
/// from printing its errors. Handles made under a Session must be destroyed before it ends.
class Session {
 public:
  Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

 private:
  std::unique_lock<std::mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

template <herr_t (*kClose)(hid_t)>
struct IdTraits {
  using Value = hid_t;
  static Value null() { return -1; }
  static void destroy(Value id) noexcept { kClose(id); }
};
using File = UniqueHandle<IdTraits<H5Fclose>>;
using Dataset = UniqueHandle<IdTraits<H5Dclose>>;
using Space = UniqueHandle<IdTraits<H5Sclose>>;
using Type = UniqueHandle<IdTraits<H5Tclose>>;
using Attribute = UniqueHandle<IdTraits<H5Aclose>>;
using Object = UniqueHandle<IdTraits<H5Oclose>>;
using Properties = UniqueHandle<IdTraits<H5Pclose>>;

/// What a call is about, for the text of its error: `<file>: <what> '<name>': <HDF5's reason>`.
struct Place {
  const std::string& file;
  const char* what;
  const std::string& name;
};

/// Throws DataError with the innermost reason on HDF5's error stack.
[[noreturn]] void fail(const Place& place);

/// Passes a status or id through, or throws DataError if it is negative.
template <class T>
T check(T status, const Place& place) {
  if (status < 0)
    fail(place);
  return status;
}

/// The type in the file (little-endian) and in memory; bfloat16 is kept as its uint16 bits.
hid_t file_type(DType dtype);
hid_t memory_type(DType dtype);
/// bool as h5py writes it: an enumeration FALSE, TRUE over int8.
Type make_bool_type();
Type make_string_type();

/// The name of the attribute on a uint16 dataset that holds another dtype's bits.
inline constexpr const char* kDtypeAttribute = "dtype";

}  // namespace hew::h5
