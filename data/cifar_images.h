#pragma once

#include <memory>
#include <string>

#include "data/image_set.h"

namespace hew {

/// Whether a file has the size of CIFAR binary batches and labels that fit.
bool is_cifar(const std::string& path);
/// A binary batch of CIFAR-10 (label, 3 · 1024 bytes) or CIFAR-100 (coarse label, fine label, 3 ·
/// 1024 bytes; the fine one counts). Classes are named by `batches.meta.txt` or
/// `fine_label_names.txt` beside it, where there is one. Throws DataError naming file and record.
std::shared_ptr<const ImageSet> open_cifar_images(const std::string& path);

}  // namespace hew
