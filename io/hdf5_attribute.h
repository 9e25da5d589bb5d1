#pragma once

// Attributes for the HDF5 reader and writer; nothing outside io/ includes this.

#include "io/hdf5.h"
#include "io/hdf5_calls.h"

namespace hew::h5 {

/// Sets, or replaces, the attribute that `place` names. Under a Session.
void set_attribute(hid_t object, const H5Attribute& value, const Place& place);
/// Throws DataError also where there is none, or none of a type that H5Attribute holds.
H5Attribute get_attribute(hid_t object, const Place& place);

}  // namespace hew::h5
