// Plans for the models of test/Inputs: every strategy for all layers alike, and strategies drawn for each layer.
#ifndef GALVATRON_TEST_UNIT_EQUIVALENCE_DRAWNPLANS_H
#define GALVATRON_TEST_UNIT_EQUIVALENCE_DRAWNPLANS_H

#include "TrainedPlan.h"

namespace galvatron::reference {

/// A model of test/Inputs and what a strategy may cut of it.
struct ModelSizes {
  std::string file;
  int64_t batch, seq, heads, feedForward, vocabulary;
  bool isTied;                        ///< embedding and head have one table
  std::vector<int64_t> degrees;       ///< that all layers have alike
  std::vector<int64_t> ranksOfAStage; ///< that plans are drawn for
  int drawn;                          ///< plans

  /// The first two blocks cut in two, so that there are six units.
  std::string halves() const {
    std::string attention = isTied ? "attn" : "self_attn", units;
    for (std::string layer : {"layers.0.", "layers.1."})
      units += (units.empty() ? "" : ",") + layer + attention + "," + layer + "mlp";
    return units;
  }

  // Printed by GoogleTest where a test fails.
  friend void PrintTo(const ModelSizes &sizes, std::ostream *os) { *os << sizes.file; }
};

inline constexpr int64_t kMostRanks = 8;

/// Words of `cp_kind` and `cp_zigzag` in dialects/Plan/Strategy.def.
inline constexpr int64_t kRing = 2, kZigzag = 2;

/// Whether a layer can have a strategy. `isBlock`: it has heads and a feed-forward width, and no vocabulary.
inline bool isLegal(const ModelSizes &model, const plan::StrategyValues &values, int64_t microBatches, bool isBlock) {
  int64_t parts = values.cp * values.ulysses * (values.sequenceParallel ? values.tp : 1);
  if (values.cpZigzag == kZigzag)
    parts *= 2;
  bool isCut = isBlock ? model.heads % (values.tp * values.ulysses) == 0 && model.feedForward % values.tp == 0
                       : model.vocabulary % values.tp == 0;
  return isCut && model.batch % (values.dp * microBatches) == 0 && model.seq % parts == 0 &&
         (values.tp > 1 || !(values.sequenceParallel || values.strided)) &&
         (!values.zero || values.dp * values.ulysses * values.cp > 1) && plan::whyUnsupported(values).empty();
}

/// Embedding and first block on the first stage, the rest on the last.
inline std::vector<int64_t> halves(size_t layers, int64_t stages) {
  std::vector<int64_t> stageOf(layers, 0);
  for (size_t layer = layers / 2; layer < layers; ++layer)
    stageOf[layer] = stages - 1;
  return stageOf;
}

/// Bits of all values that each layer can recompute.
using ValueBits = std::vector<int64_t>;

/// All layers alike: every legal combination of the model's degrees.
inline std::vector<LayerwisePlan> uniformPlans(const ModelSizes &model, const ValueBits &allValues) {
  std::vector<LayerwisePlan> plans;
  plan::StrategyValues values;
  bool recomputesValues = false;
  auto add = [&](int64_t pp) {
    LayerwisePlan plan;
    plan.stages = pp;
    plan.devices = values.dp * values.tp * values.ulysses * values.cp;
    int64_t rows = model.batch / values.dp;
    plan.microBatches = rows % 4 == 0 ? 4 : rows % 3 == 0 ? 3 : 2;
    plan.schedule = plans.size() % 2 ? "gpipe" : "1f1b";
    if (!isLegal(model, values, plan.microBatches, true) || plan.stages * plan.devices > kMostRanks)
      return;
    plan.strategies.assign(allValues.size(), values);
    // All of them in one plan, every second in the next.
    for (size_t layer = 0; recomputesValues && layer < allValues.size(); ++layer)
      plan.strategies[layer].values = allValues[layer] & (plans.size() % 2 ? 0xffffffff : 0x55555555);
    plan.stageOf = halves(allValues.size(), pp);
    plans.push_back(std::move(plan));
  };
  auto addRecomputations = [&](int64_t pp) {
    for (int kind = 0; kind < 3; ++kind) {
      values.recompute = kind == 1;
      recomputesValues = kind == 2;
      add(pp);
    }
  };
  for (int64_t pp : {1, 2})
    for (int64_t tp : model.degrees)
      for (bool sequenceParallel : {false, true})
        for (int64_t ulysses : model.degrees)
          for (int64_t cp : model.degrees)
            for (int64_t zero = 0; zero <= 3; ++zero)
              for (int64_t dp : model.degrees) {
                values = {};
                values.tp = tp, values.ulysses = ulysses, values.cp = cp, values.dp = dp;
                values.sequenceParallel = sequenceParallel, values.zero = zero;
                if (cp <= 3)
                  addRecomputations(pp);
                values.cpKind = kRing, values.cpZigzag = kZigzag;
                if (cp == 2 || cp == 3)
                  addRecomputations(pp);
              }
  return plans;
}

/// Nothing, one value, some, or all.
inline int64_t drawValues(std::mt19937 &generator, int64_t all) {
  int64_t one = all ? int64_t(1) << generator() % std::popcount(uint64_t(all)) : 0, some = generator();
  int64_t sets[] = {0, one, some, all};
  return sets[generator() % 4] & all;
}

/// A layer's own share of `devices`, legal or not.
inline plan::StrategyValues drawStrategy(std::mt19937 &generator, int64_t devices, int64_t allValues) {
  plan::StrategyValues values;
  int64_t *degrees[] = {&values.dp, &values.cp, &values.ulysses, &values.tp};
  for (int64_t prime : plan::getPrimeFactors(devices))
    *degrees[generator() % 4] *= prime;
  values.sequenceParallel = values.tp > 1 && generator() % 2;
  values.strided = values.tp > 1 && generator() % 3 == 0;
  bool hasCopies = values.dp * values.ulysses * values.cp > 1; // of parameters
  values.zero = hasCopies ? generator() % 4 : 0;
  values.reduceEveryMicroBatch = hasCopies ? generator() % 3 : 0;
  if (values.cp > 1)
    values.cpKind = generator() % 3, values.cpZigzag = generator() % 3;
  values.recompute = generator() % 3 == 0;
  values.values = values.recompute ? 0 : drawValues(generator, allValues);
  bool gathers =
      plan::isRing(values) ? values.sequenceParallel : values.sequenceParallel || values.ulysses * values.cp > 1;
  values.keepGathered = gathers && generator() % 2;
  return values;
}

/// Stages, micro-batches and an order of the mesh's axes; `drawLayer` gives a layer its strategy.
template <typename DrawLayer>
LayerwisePlan drawPlan(std::mt19937 &generator, const ModelSizes &model, size_t layers, DrawLayer drawLayer) {
  LayerwisePlan plan;
  plan.stages = 1 + generator() % 2;
  do
    plan.devices = model.ranksOfAStage[generator() % model.ranksOfAStage.size()];
  while (plan.stages * plan.devices > kMostRanks);
  do
    plan.microBatches = 1 + generator() % 4;
  while (model.batch % plan.microBatches != 0);
  plan.schedule = generator() % 2 ? "gpipe" : "1f1b";
  plan.mesh = plan::getPrimeFactors(plan.devices);
  std::shuffle(plan.mesh.begin(), plan.mesh.end(), generator);
  int64_t border = 1 + generator() % (layers - 1);
  for (size_t layer = 0; layer < layers; ++layer) {
    plan.stageOf.push_back(int64_t(layer) >= border ? plan.stages - 1 : 0);
    plan.strategies.push_back(drawLayer(layer, plan));
  }
  return plan;
}

/// Each layer draws for itself, and at least one what is not legal.
inline LayerwisePlan drawIllegalPlan(unsigned seed, const ModelSizes &model, size_t layers) {
  std::mt19937 generator(seed);
  bool isAllLegal = true;
  auto drawLayer = [&](size_t layer, const LayerwisePlan &plan) {
    plan::StrategyValues values = drawStrategy(generator, plan.devices, /*allValues=*/0);
    isAllLegal &= isLegal(model, values, plan.microBatches, layer > 0 && layer + 1 < layers);
    return values;
  };
  LayerwisePlan plan;
  while (isAllLegal)
    plan = drawPlan(generator, model, layers, drawLayer);
  return plan;
}

/// Each layer draws for itself until the draw is legal.
inline LayerwisePlan drawLegalPlan(unsigned seed, const ModelSizes &model, const ValueBits &allValues) {
  std::mt19937 generator(seed);
  auto drawLayer = [&](size_t layer, const LayerwisePlan &plan) {
    bool isLast = layer + 1 == allValues.size();
    while (true) {
      plan::StrategyValues values = drawStrategy(generator, plan.devices, allValues[layer]);
      // States of a tied table are shared alike, and its gradients reduced at one time.
      const plan::StrategyValues &first = plan.strategies.empty() ? values : plan.strategies.front();
      if (isLast && model.isTied &&
          (values.zero != first.zero || plan::reducesEveryMicroBatch(values) != plan::reducesEveryMicroBatch(first)))
        continue;
      if (isLegal(model, values, plan.microBatches, /*isBlock=*/layer > 0 && !isLast))
        return values;
    }
  };
  return drawPlan(generator, model, allValues.size(), drawLayer);
}

/// Draws plans until `count` of them train like on one device; `place` puts the layers of each on stages, or returns
/// false where it has no room for it.
inline void expectEquivalentDrawn(TrainedModel &model, const ModelSizes &sizes, unsigned firstSeed, int count,
                                  llvm::function_ref<bool(std::mt19937 &generator, LayerwisePlan &plan)> place) {
  ValueBits values = model.recomputableValues();
  int tested = 0;
  for (unsigned seed = 0; tested < count; ++seed) {
    LayerwisePlan plan = drawLegalPlan(firstSeed + seed, sizes, values);
    std::mt19937 generator(seed);
    if (!place(generator, plan))
      continue;
    expectEquivalent(model, plan);
    ++tested;
  }
}

} // namespace galvatron::reference

#endif // GALVATRON_TEST_UNIT_EQUIVALENCE_DRAWNPLANS_H
