//===- TransformerRules.h - What a strategy adds to a layer ------*- C++ -*-===//
//
// Private to lib/Search: collectives and states that follow from a strategy,
// whatever the times of the layer come from.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_TRANSFORMERRULES_H
#define GALVATRON_SEARCH_MODEL_TRANSFORMERRULES_H

#include "galvatron/Search/Model/Problem.h"

#include <cstdint>

namespace galvatron::search {

/// What the parallel rules need to know of a layer; everything else follows.
struct Body {
  double parameters = 0; ///< elements, whole
  /// Boundary value [b, s, h] of one data-parallel rank, whole sequence, bytes.
  double boundary = 0;
  /// Keys and values of the same samples, both, whole sequence, bytes.
  double keysValues = 0;
  bool attention = false;
  /// Exchanges of [b, s, h] in forward and backward under tp.
  int tensorForward = 0, tensorBackward = 0;
  int bytesPerElement = 2;
  double expertParameters = 0; ///< of `parameters`, in experts, whole
  double routed = 0;           ///< bytes of the tokens that a rank sends to experts
};

/// Whole bytes, of absurd sizes still a number.
std::int64_t wholeBytes(double bytes);

/// Of tp. `local`: bytes of the boundary value before tp cuts it.
void addTensor(LayerCost &cost, const Strategy &strategy, const Body &body, double local);

/// Of Ulysses and cp, in attention. `local`: bytes of the boundary value, whole sequence.
void addSequence(LayerCost &cost, const Strategy &strategy, const Body &body, double local);

/// Tokens go to the ranks of their experts and come back: dispatch and combine,
/// forward and backward. Routing is taken to be even.
void addExperts(LayerCost &cost, const Strategy &strategy, const Body &body);

/// Gradients and sharded states: collectives, bytes, and the optimizer's time.
void addStates(LayerCost &cost, const CostQuery &query, const Body &body, double memoryBytesPerSecond);

/// Backward does again what forward does.
void repeatForward(LayerCost &cost);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_TRANSFORMERRULES_H
