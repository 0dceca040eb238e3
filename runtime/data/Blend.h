//===- Blend.h - which of several datasets each sample is from ---------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_BLEND_H
#define GALVATRON_RUNTIME_DATA_BLEND_H

#include <cstdint>
#include <deque>
#include <vector>

namespace galvatron {

/// Each divided by their sum, added up as NumPy does.
std::vector<double> normalizeWeights(std::vector<double> weights);

/// Sample k is of the dataset with the largest w · max(k, 1) - n, the first on a tie, where w is its weight and n the
/// number of samples that it has given so far: as Megatron's build_blending_indices.
class Blend {
public:
  struct Place {
    int64_t dataset, sample; // of that dataset
  };

  explicit Blend(const std::vector<double> &weights = {1}) : weights(weights), taken(weights.size()) {}

  /// Fast where k rises from call to call, or goes back by less than kKept · kSpacing.
  Place place(int64_t k);

private:
  static constexpr int64_t kSpacing = 4096;
  static constexpr int64_t kKept = 64;
  struct State {
    int64_t next;
    std::vector<int64_t> taken;
  };
  void moveTo(int64_t k);
  int64_t choose() const;

  std::vector<double> weights;
  std::vector<int64_t> taken; // by samples before `next`
  int64_t next = 0;
  std::deque<State> states; // on the way here, the last ones
};

} // namespace galvatron

#endif
