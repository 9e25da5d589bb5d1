#include <algorithm>

#include "kernels/embedding.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;
// Channels that one thread adds up: whole cache lines, so that no two threads share one.
constexpr std::int64_t kChannels = 64;

void check_ids(std::string_view op, const ConstView& ids, std::int64_t vocabulary) {
  const std::int32_t* id = ids.as<std::int32_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    require<DataError>(id[i] >= 0 && id[i] < vocabulary,
                       "[{}] id {} at position {} is outside a vocabulary of {}", op, id[i], i,
                       vocabulary);
  }
}

}  // namespace

template <class T>
void embedding_forward(Cpu /*backend*/, const ConstView& ids, const ConstView& table,
                       const View& y) {
  check_ids("embedding", ids, table.shape[0]);
  const std::int64_t width = table.shape[1];
  const std::int32_t* id = ids.as<std::int32_t>();
#pragma omp parallel for if (y.numel() > kParallel)
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    std::copy_n(table.as<T>() + id[i] * width, width, y.as<T>() + i * width);
  }
}

IdGroups group_ids(Cpu /*backend*/, const Tensor& ids, std::int64_t rows) {
  IdGroups groups;
  groups.ids = ids;
  groups.rows = rows;
  return groups;
}

template <class T>
void embedding_backward(Cpu /*backend*/, const IdGroups& groups, const ConstView& dy,
                        const View& dtable, bool accumulate) {
  const ConstView ids = groups.ids;
  check_ids("embedding_backward", ids, dtable.shape[0]);
  const std::int64_t rows = dtable.shape[0];
  const std::int64_t width = dtable.shape[1];
  const std::int32_t* id = ids.as<std::int32_t>();
#pragma omp parallel for if (dy.numel() > kParallel)
  for (std::int64_t begin = 0; begin < width; begin += kChannels) {
    const std::int64_t end = std::min(begin + kChannels, width);
    for (std::int64_t row = 0; row < rows && !accumulate; ++row) {
      std::fill(dtable.as<T>() + row * width + begin, dtable.as<T>() + row * width + end, T(0));
    }
    for (std::int64_t i = 0; i < ids.numel(); ++i) {
      const T* from = dy.as<T>() + i * width;
      T* to = dtable.as<T>() + id[i] * width;
      for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  }
}

#define HEW_INSTANTIATE(T)                                                                  \
  template void embedding_forward<T>(Cpu, const ConstView&, const ConstView&, const View&); \
  template void embedding_backward<T>(Cpu, const IdGroups&, const ConstView&, const View&, bool);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
