#include "kernels/hopper/bsr_product_launch.cuh"

namespace hew::kernels::hopper {

void launch_tf32(Cuda backend, const BsrProductCall& call, bool gradient) {
  launch_product<float>(backend, call, gradient);
}

}  // namespace hew::kernels::hopper
