#pragma once

#include <string>

#include "core/stream.h"

namespace hew::kernels {

/// How the attention of one stream is computed on a GPU; free to be changed between calls:
/// `stream.state->get<AttentionSettings>(stream)`.
struct AttentionSettings {
  explicit AttentionSettings(const Stream& /*stream*/) {}

  /// The backward pass gives the same bytes every time. Without it cuDNN adds in any order; with it
  /// cuDNN takes a workspace of B·H·Tq·Tk bfloat16 on Hopper. The own kernel always does.
  bool deterministic = false;
  /// cuDNN is not asked.
  bool own_kernel = false;
  /// Why cuDNN did not take the last call it was offered; empty if it did.
  std::string refusal;
};

}  // namespace hew::kernels
