#pragma once

// How HDF5 writes to an AtomicFile; nothing outside io/ includes this.

#include <exception>

#include "io/atomic_file.h"
#include "io/hdf5_calls.h"

namespace hew::h5 {

/// Where HDF5's bytes go. HDF5 cannot recover from a write that fails: it crashes when the program
/// ends. So it is told that every write worked; the first failure is kept here, the rest is
/// dropped, and the caller looks at `failure` after each call.
struct Sink {
  AtomicFile* file = nullptr;
  std::exception_ptr failure;
  bool discard = false;  // nothing is written any more

  void rethrow() const {
    if (failure)
      std::rethrow_exception(failure);
  }
};

/// File-access properties that make H5Fcreate write to `sink`, which must outlive the HDF5 file.
Properties make_sink_access(Sink& sink);

}  // namespace hew::h5
