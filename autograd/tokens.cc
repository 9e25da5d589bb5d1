#include "autograd/tokens.h"

#include "kernels/elementwise.h"
#include "kernels/permute.h"
#include "kernels/tokens.h"

namespace hew::ag {

Variable join_tokens(const Variable& x, const Variable& class_token, const Variable& positions) {
  require<ShapeError>(x.shape().rank() == 3, "[join_tokens] x has shape {}, expected [B, n, C]",
                      to_string(x.shape()));
  const std::int64_t batch = x.size(0);
  const std::int64_t width = x.size(2);
  const std::int64_t front = class_token ? 1 : 0;
  const std::int64_t tokens = x.size(1) + front;
  Tensor y = Tensor::empty({batch, tokens, width}, x.dtype(), x.stream());
  kernels::join_tokens({.x = x.value(),
                        .class_token = class_token ? class_token.value().view() : ConstView{},
                        .positions = positions.value(),
                        .y = y},
                       x.stream());
  return record(
      "join_tokens", y, {x, class_token, positions},
      [batch, width, front, tokens](const Tensor& dy, Needs& needs) {
        std::vector<Tensor> out(3);
        const std::int64_t own = (tokens - front) * width;
        if (needs[0] && front == 0)
          out[0] = dy;
        if (needs[0] && front > 0) {
          out[0] = Tensor::empty({batch, tokens - front, width}, dy.dtype(), dy.stream());
          kernels::copy_columns({.from = dy.reshape({batch, tokens * width}),
                                 .to = out[0].reshape({batch, own}),
                                 .from_begin = width,
                                 .to_begin = 0,
                                 .count = own},
                                dy.stream());
        }
        if (needs[1] || needs[2]) {
          Tensor sums = Tensor::empty({tokens, width}, accumulator_of(dy.dtype()), dy.stream());
          kernels::sum_leading(dy, sums, dy.stream());
          if (needs[1])
            out[1] = sums.rows(0, 1).reshape({width});
          out[2] = sums;
        }
        return out;
      });
}

Variable first_tokens(const Variable& x, const Variable& residual, std::int64_t tokens) {
  const Shape& shape = x.shape();
  require<ShapeError>(shape.rank() == 2 && tokens > 0 && shape[0] % tokens == 0,
                      "[first_tokens] x has shape {}, expected rows of {} tokens a sample",
                      to_string(shape), tokens);
  require<ShapeError>(!residual || residual.shape() == shape,
                      "[first_tokens] the residual has shape {}, x {}",
                      residual ? to_string(residual.shape()) : "", to_string(shape));
  const Shape samples{shape[0] / tokens, tokens * shape[1]};
  const auto first_of = [&](const Tensor& all) {
    Tensor out = Tensor::empty({samples[0], shape[1]}, all.dtype(), all.stream());
    kernels::copy_columns({.from = all.reshape(samples), .to = out, .count = shape[1]},
                          all.stream());
    return out;
  };
  Tensor y = first_of(x.value());
  if (residual)
    kernels::add(y, first_of(residual.value()), y, x.stream());
  return record("first_tokens", y, {x, residual}, [shape, samples](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::zeros(samples, dy.dtype(), dy.stream());
    kernels::copy_columns({.from = dy, .to = dx, .count = shape[1]}, dy.stream());
    dx = dx.reshape(shape);
    return std::vector<Tensor>{dx, dx};
  });
}

Variable mean_tokens(const Variable& x) {
  require<ShapeError>(x.shape().rank() == 3, "[mean_tokens] x has shape {}, expected [B, T, C]",
                      to_string(x.shape()));
  Tensor y = Tensor::empty({x.size(0), x.size(2)}, x.dtype(), x.stream());
  kernels::mean_tokens(x.value(), y, x.stream());
  return record("mean_tokens", y, {x}, [shape = x.shape()](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::empty(shape, dy.dtype(), dy.stream());
    kernels::mean_tokens_backward(dy, dx, dy.stream());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace hew::ag
