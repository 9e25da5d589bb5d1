#include "kernels/bsr_mlp.h"

namespace hew::kernels {

template <class T>
void bsr_mlp_forward(Cpu backend, const BsrMlpArgs& args) {
  bsr_mlp_products<T>(backend, args);
}

template void bsr_mlp_forward<float>(Cpu, const BsrMlpArgs&);
template void bsr_mlp_forward<double>(Cpu, const BsrMlpArgs&);

}  // namespace hew::kernels
