//===- LeastMemory.cpp - The smallest budget with a plan ------------------===//

#include "LeastMemory.h"

#include <algorithm>

namespace galvatron::search {

namespace {
class LeastMemorySearch {
public:
  explicit LeastMemorySearch(const Candidate &candidate)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()) {
    for (const OptionLists &lists : candidate.options())
      for (const std::vector<Option> &list : lists)
        for (const Option &option : list)
          caps.push_back(option.scratch);
    std::sort(caps.begin(), caps.end());
    caps.erase(std::unique(caps.begin(), caps.end()), caps.end());
    // With very many sizes, the largest of each group stands for it.
    while (caps.size() > 256)
      for (std::size_t i = 0; i + 1 < caps.size(); ++i)
        caps.erase(caps.begin() + i);
  }

  LeastMemory run() {
    int layers = int(setting.typeOf.size()), stages = setting.stages;
    const std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
    std::vector<std::vector<std::int64_t>> least(stages + 1, std::vector<std::int64_t>(layers + 1, kNone));
    auto from = std::vector<std::vector<int>>(stages + 1, std::vector<int>(layers + 1, 0));
    least[0][0] = 0;
    for (int stage = 0; stage < stages; ++stage)
      for (int begin = stage; begin < layers; ++begin) {
        if (least[stage][begin] == kNone)
          continue;
        start(stage);
        for (int end = begin + 1; end <= layers - (stages - 1 - stage); ++end) {
          std::int64_t need = addLayer(end - 1);
          if (need != kNone)
            need = std::max(least[stage][begin], need + setting.extraBytes(stage));
          if (need < least[stage + 1][end]) {
            least[stage + 1][end] = need;
            from[stage + 1][end] = begin;
          }
        }
      }
    LeastMemory result;
    result.bytes = least[stages][layers];
    if (result.bytes == kNone)
      return result;
    result.choice.options.resize(layers);
    result.choice.partOf.resize(layers);
    std::int64_t most = -1;
    for (int stage = stages - 1, end = layers; stage >= 0; --stage) {
      int begin = from[stage + 1][end];
      start(stage);
      std::int64_t need = 0, largest = -1;
      for (int layer = begin; layer < end; ++layer)
        need = addLayer(layer);
      std::size_t cap = 0; // its place among the caps
      for (std::size_t i = 0; i < caps.size(); ++i)
        if (sums[i] != kNone && sums[i] + caps[i] == need)
          cap = i;
      for (int layer = begin; layer < end; ++layer) {
        const Option *option = smallestOf[setting.typeOf[layer]][cap];
        result.choice.options[layer] = option;
        result.choice.partOf[layer] = stage;
        // Of the stage that needs the most, the largest layer.
        if (need >= most && size(*option) > largest) {
          largest = size(*option);
          result.stage = stage;
          result.layer = layer;
          result.option = option;
        }
      }
      most = std::max(most, need);
      end = begin;
    }
    return result;
  }

private:
  void start(int stage) {
    sums.assign(caps.size(), 0);
    const OptionLists *lists = &candidate.options()[setting.classOf[stage]];
    if (here == lists && kept == timetable.inFlight(stage)[0][0])
      return;
    here = lists;
    kept = timetable.inFlight(stage)[0][0];
    // The smallest option of each type under each cap.
    smallestOf.assign(here->size(), std::vector<const Option *>(caps.size(), nullptr));
    for (std::size_t type = 0; type < here->size(); ++type)
      for (const Option &option : (*here)[type])
        for (std::size_t i = caps.size(); i-- > 0 && option.scratch <= caps[i];) {
          const Option *&best = smallestOf[type][i];
          if (!best || size(option) < size(*best))
            best = &option;
        }
  }
  std::int64_t size(const Option &option) const { return option.state + option.saved * kept; }
  /// The stage's need after one more layer.
  std::int64_t addLayer(int layer) {
    const std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
    std::int64_t need = kNone;
    for (std::size_t i = 0; i < caps.size(); ++i) {
      if (sums[i] == kNone)
        continue;
      const Option *option = smallestOf[setting.typeOf[layer]][i];
      sums[i] = option ? sums[i] + size(*option) : kNone;
      if (option)
        need = std::min(need, sums[i] + caps[i]);
    }
    return need;
  }

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  const OptionLists *here = nullptr; ///< of the stage at hand
  std::vector<std::int64_t> caps, sums;
  int kept = 1;
  std::vector<std::vector<const Option *>> smallestOf; ///< by type and cap
};
} // namespace

LeastMemory findLeastMemory(const Candidate &candidate) { return LeastMemorySearch(candidate).run(); }

} // namespace galvatron::search
