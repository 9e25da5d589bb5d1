#include "kernels/hopper/bsr_product_launch.cuh"

namespace hew::kernels::hopper {

void launch_bf16(Cuda backend, const BsrProductCall& call, bool gradient) {
  launch_product<__nv_bfloat16>(backend, call, gradient);
}

}  // namespace hew::kernels::hopper
