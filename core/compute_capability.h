#pragma once

namespace hew::cuda {

/// The environment variable that caps the compute capability.
inline constexpr const char* kCapabilityCap = "HEW_CUDA_CAPABILITY";

/// The compute capability that a device is used as, 10·major + minor: its own, or `cap` (the value
/// of HEW_CUDA_CAPABILITY; null if it is not set) where that is less. Throws ConfigError unless
/// `cap` is a whole number from 80, the least that hew is compiled for, to 999.
int capped_capability(int own, const char* cap);

}  // namespace hew::cuda
