#include "kernels/attention_cudnn.h"
#include "kernels/attention_settings.h"

namespace hew::kernels {
namespace {

bool refuse(const Stream& stream) {
  stream.state->get<AttentionSettings>(stream).refusal = "this build has no cuDNN attention";
  return false;
}

}  // namespace

bool cudnn_attention_forward(const AttentionForward& /*args*/, const Stream& stream) {
  return refuse(stream);
}

bool cudnn_attention_backward(const AttentionBackward& /*args*/, const Stream& stream) {
  return refuse(stream);
}

bool has_cudnn_attention() {
  return false;
}

}  // namespace hew::kernels
