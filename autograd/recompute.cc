#include "autograd/recompute.h"

namespace hew::ag {

Variable recomputed(const char* name, const Variable& x, const Segment& segment) {
  return record(name, segment(x.detach(), /*taped=*/false).value(), {x},
                [x = x.value(), segment](const Tensor& dy, Needs& needs) {
                  const Variable leaf(x, needs[0]);
                  backward(segment(leaf, /*taped=*/true), dy, needs.hooks());
                  return std::vector<Tensor>{leaf.grad()};
                });
}

}  // namespace hew::ag
