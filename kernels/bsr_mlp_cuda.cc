#include "kernels/bsr_mlp.h"
#include "kernels/bsr_mlp_route.h"
#include "kernels/bsr_mlp_schedule.h"
#include "kernels/bsr_routes.h"
#include "kernels/hopper/bsr_mlp.h"

namespace hew::kernels {
namespace {

BsrMlpProblem problem_of(const BsrMlpArgs& args) {
  BsrMlpProblem p{.up = problem_of(BsrProduct::kForward, args.x, args.up, /*hopper=*/true),
                  .down = problem_of(BsrProduct::kForward, args.x, args.down, /*hopper=*/true),
                  .activation = args.activation};
  const hopper::MlpProgram& program = args.schedule->program();
  p.tile_tokens = program.tile.tokens;
  p.hidden_strips = program.hidden_strips;
  p.boxes = program.blocks;
  return p;
}

bool fuses(Cuda backend, const BsrMlpArgs& args) {
  if (!hopper::takes(backend, args))
    return false;
  const BsrSettings& settings = backend.stream.state->get<BsrSettings>(backend.stream);
  if (settings.fusing != BsrFusing::kAuto)
    return settings.fusing == BsrFusing::kAlways;
  return settings.folding != BsrFolding::kFolded &&
         cheapest_route(problem_of(args)) == BsrMlpRoute::kFused;
}

}  // namespace

template <class T>
void bsr_mlp_forward(Cuda backend, const BsrMlpArgs& args) {
  if (fuses(backend, args))
    return hopper::bsr_mlp_forward(backend, args);
  bsr_mlp_products<T>(backend, args);
}

template void bsr_mlp_forward<float>(Cuda, const BsrMlpArgs&);
template void bsr_mlp_forward<double>(Cuda, const BsrMlpArgs&);
template void bsr_mlp_forward<BFloat16>(Cuda, const BsrMlpArgs&);

}  // namespace hew::kernels
