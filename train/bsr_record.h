#pragma once

#include <string>

#include "io/bsr_file.h"
#include "sparsity/linear_weight.h"

namespace hew::train {

/// A weight's live blocks as files hold them. The weight has a pattern.
BsrRecord to_record(const sparsity::LinearWeight& weight, const std::string& name);
/// The pattern of a record read from a file, on `stream`'s device.
sparsity::PatternPtr pattern_of(const BsrRecord& record, const Stream& stream);

}  // namespace hew::train
