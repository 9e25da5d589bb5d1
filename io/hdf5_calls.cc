#include "io/hdf5_calls.h"

#include <string_view>

namespace hew::h5 {
namespace {

// HDF5 keeps one state per process, and so must the lock on it.
std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

// Walked from the innermost call outwards: the first description is the cause.
herr_t keep_first(unsigned /*n*/, const H5E_error2_t* error, void* out) {
  auto& text = *static_cast<std::string*>(out);
  if (text.empty() && error->desc != nullptr)
    text = error->desc;
  return 0;
}

}  // namespace

Session::Session() : lock_(library_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() {
  H5Eset_auto2(H5E_DEFAULT, print_, print_data_);
}

void fail(const Place& place) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  for (char& c : reason) {
    if (c == '\n')
      c = ' ';
  }
  throw DataError(fmt::format("{}: {} '{}': {}", place.file, place.what, place.name,
                              reason.empty() ? "HDF5 gives no reason" : reason));
}

hid_t file_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return H5T_IEEE_F32LE;
    case DType::kFloat64:
      return H5T_IEEE_F64LE;
    case DType::kInt32:
      return H5T_STD_I32LE;
    case DType::kInt64:
      return H5T_STD_I64LE;
    case DType::kUInt8:
      return H5T_STD_U8LE;
    case DType::kBFloat16:
    case DType::kUInt16:
      break;
  }
  return H5T_STD_U16LE;
}

hid_t memory_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return H5T_NATIVE_FLOAT;
    case DType::kFloat64:
      return H5T_NATIVE_DOUBLE;
    case DType::kInt32:
      return H5T_NATIVE_INT32;
    case DType::kInt64:
      return H5T_NATIVE_INT64;
    case DType::kUInt8:
      return H5T_NATIVE_UINT8;
    case DType::kBFloat16:
    case DType::kUInt16:
      break;
  }
  return H5T_NATIVE_UINT16;
}

Type make_bool_type() {
  Type type(H5Tenum_create(H5T_NATIVE_INT8));
  constexpr signed char kFalse = 0;
  constexpr signed char kTrue = 1;
  const bool made = type && H5Tenum_insert(type.get(), "FALSE", &kFalse) >= 0 &&
                    H5Tenum_insert(type.get(), "TRUE", &kTrue) >= 0;
  if (!made)
    throw BackendError("H5Tenum_create", -1, "no bool type");
  return type;
}

Type make_string_type() {
  Type type(H5Tcopy(H5T_C_S1));
  const bool made = type && H5Tset_size(type.get(), H5T_VARIABLE) >= 0 &&
                    H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0;
  if (!made)
    throw BackendError("H5Tcopy", -1, "no string type");
  return type;
}

}  // namespace hew::h5
