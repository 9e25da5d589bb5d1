#include "io/hdf5_attribute.h"

namespace hew::h5 {
namespace {

struct AttributeTypes {
  hid_t file;
  hid_t memory;
};

void set_value(hid_t object, AttributeTypes types, const void* value, const Place& place) {
  if (check(H5Aexists(object, place.name.c_str()), place) > 0) {
    check(H5Adelete(object, place.name.c_str()), place);
  }
  const Space space(check(H5Screate(H5S_SCALAR), place));
  const Attribute attribute(check(
      H5Acreate2(object, place.name.c_str(), types.file, space.get(), H5P_DEFAULT, H5P_DEFAULT),
      place));
  check(H5Awrite(attribute.get(), types.memory, value), place);
}

std::string string_value(const Attribute& attribute, const Type& type, const Place& place) {
  if (check(H5Tis_variable_str(type.get()), place) > 0) {
    const Type memory = make_string_type();
    char* text = nullptr;
    check(H5Aread(attribute.get(), memory.get(), static_cast<void*>(&text)), place);
    std::string value = text == nullptr ? "" : text;
    H5free_memory(text);
    return value;
  }
  std::string value(H5Tget_size(type.get()), '\0');
  check(H5Aread(attribute.get(), type.get(), value.data()), place);
  return value.substr(0, value.find('\0'));
}

template <class T>
T plain_value(const Attribute& attribute, hid_t memory_type, const Place& place) {
  T value{};
  check(H5Aread(attribute.get(), memory_type, &value), place);
  return value;
}

}  // namespace

void set_attribute(hid_t object, const H5Attribute& value, const Place& place) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    require<DataError>(text->find('\0') == std::string::npos, "{}: {} '{}' holds a zero byte",
                       place.file, place.what, place.name);
    const Type type = make_string_type();
    const char* data = text->c_str();
    set_value(object, {type.get(), type.get()}, &data, place);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    const Type type = make_bool_type();
    const auto byte = static_cast<signed char>(*flag);
    set_value(object, {type.get(), type.get()}, &byte, place);
  } else if (const auto* number = std::get_if<double>(&value)) {
    set_value(object, {H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE}, number, place);
  } else {
    set_value(object, {H5T_STD_I64LE, H5T_NATIVE_INT64}, &std::get<std::int64_t>(value), place);
  }
}

H5Attribute get_attribute(hid_t object, const Place& place) {
  require<DataError>(H5Aexists(object, place.name.c_str()) > 0, "{}: {} '{}' is missing",
                     place.file, place.what, place.name);
  const Attribute attribute(check(H5Aopen(object, place.name.c_str(), H5P_DEFAULT), place));
  const Space space(check(H5Aget_space(attribute.get()), place));
  require<DataError>(H5Sget_simple_extent_npoints(space.get()) == 1,
                     "{}: {} '{}' is not a single value", place.file, place.what, place.name);
  const Type type(check(H5Aget_type(attribute.get()), place));
  switch (H5Tget_class(type.get())) {
    case H5T_STRING:
      return string_value(attribute, type, place);
    case H5T_INTEGER:
      return plain_value<std::int64_t>(attribute, H5T_NATIVE_INT64, place);
    case H5T_FLOAT:
      return plain_value<double>(attribute, H5T_NATIVE_DOUBLE, place);
    case H5T_ENUM:
      return plain_value<signed char>(attribute, make_bool_type().get(), place) != 0;
    default:
      throw DataError(fmt::format("{}: {} '{}' is of a type that hew does not read", place.file,
                                  place.what, place.name));
  }
}

}  // namespace hew::h5
