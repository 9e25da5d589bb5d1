#include "core/error.h"
#include "dist/nccl_comm.h"

namespace hew::dist {

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& /*host*/,
                                                     const Stream& /*stream*/,
                                                     PeerCopying /*copying*/) {
  throw BackendError("nccl", 0, "this build has no CUDA (configure with the preset cuda)");
}

}  // namespace hew::dist
