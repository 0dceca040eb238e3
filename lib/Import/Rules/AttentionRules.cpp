// scaled_dot_product_attention. Eager attention arrives as products, mask arithmetic and softmax, and
// is left to `raise-attention` in the forms that Emitter.h draws.
#include "lib/Import/Expression/Mask.h"
#include "lib/Import/Program/Importer.h"

#include "dialects/Graph/GraphAttention.h"

#include <cmath>
#include <limits>

using namespace galvatron;
using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

/// [B, N, S, D]; missing batch and head dimensions are 1.
Tensor fourDimensional(Call &call, llvm::StringRef name) {
  Tensor x = call.tensor(name);
  if (x.rank() < 2 || x.rank() > 4 || !isFloat(x.type))
    throw ImportError("expects floating point [batch, heads, positions, size] as " + name.str() + ", but got " +
                      describe(x.type) + std::string(" ") + describe(x.shape));
  Shape shape = x.shape;
  if (shape.size() == 3)
    shape.insert(shape.begin() + 1, 1); // [B, S, D]
  while (shape.size() < 4)
    shape.insert(shape.begin(), 1);
  return call.importer.reshape(x, shape);
}

/// The additive bias of an unrecognised mask, with extent 1 where it does not differ; of queries of that rank.
mlir::Value biasOf(Call &call, Tensor mask, ElementType type, size_t rank) {
  Importer &importer = call.importer;
  if (mask.type == ElementType::Bool) {
    auto number = [&](double value) { return Tensor::of(call.expressions.splat(type, {}, value)); };
    mask = importer.elementwise(Operator::Select, {mask, number(0), number(-std::numeric_limits<double>::infinity())},
                                type, type);
  }
  Shape shape = mask.shape;
  if (mask.lazy) {
    for (int64_t d = 0; d < mask.rank(); ++d)
      if (!mask.lazy->dependsOn(d))
        shape[d] = 1;
    mask = importer.slice(mask, Shape(mask.rank(), 0), shape);
  }
  if (rank == 3 && shape.size() == 3)
    shape.insert(shape.begin() + 1, 1); // [B, S, S], as the queries have it
  shape.insert(shape.begin(), 4 - shape.size(), 1);
  return importer.force(importer.reshape(importer.convert(mask, type), shape));
}

Results attention(Call &call) {
  Importer &importer = call.importer;
  Tensor q = fourDimensional(call, "query"), k = fourDimensional(call, "key"), v = fourDimensional(call, "value");
  Shape resultShape = call.tensor("query").shape;
  for (const Tensor &x : {q, k, v})
    if (numElements(x.shape) == 0)
      throw ImportError("expects queries, keys and values, but got none in " + describe(x.shape));
  if (q.shape[3] != k.shape[3] || k.shape[2] != v.shape[2] || k.shape[1] != v.shape[1] || q.shape[0] != k.shape[0] ||
      q.shape[0] != v.shape[0] || q.shape[1] % k.shape[1] != 0)
    throw ImportError("query " + describe(q.shape) + ", key " + describe(k.shape) + " and value " + describe(v.shape) +
                      " do not fit together");
  // One key head for all query heads broadcasts, with enable_gqa or without.
  if (q.shape[1] != k.shape[1] && k.shape[1] != 1 && !call.flag("enable_gqa", false))
    throw ImportError("query has " + std::to_string(q.shape[1]) + " heads and key " + std::to_string(k.shape[1]) +
                      "; pass enable_gqa=True or repeat the key's heads");

  Mask mask;
  mlir::Value bias;
  if (call.flag("is_causal", false)) {
    mask.causal = true;
    if (q.shape[2] != k.shape[2])
      throw ImportError("expects as many queries as keys with is_causal, but got " + std::to_string(q.shape[2]) +
                        " and " + std::to_string(k.shape[2]));
  } else if (call.has("attn_mask")) {
    Tensor given = call.tensor("attn_mask");
    if (given.rank() > int64_t(resultShape.size()))
      throw ImportError("expects a mask of rank " + std::to_string(resultShape.size()) +
                        " at most, as the queries', but got " + describe(given.shape));
    Shape scores{q.shape[2], k.shape[2]};
    std::optional<Mask> known;
    if (given.lazy && given.rank() >= 2) {
      Shape full(given.shape.begin(), given.shape.end() - 2);
      full.append(scores);
      known = recognizeMask(call.expressions, importer.expand(given, full).lazy);
    }
    if (known)
      mask = *known;
    else
      bias = biasOf(call, given, q.type, resultShape.size());
  }

  double dropout = call.number("dropout_p", 0);
  int64_t id = dropout > 0 ? importer.dropoutId(call.source) : 0;
  double scale = call.number("scale", 1 / std::sqrt(double(q.shape[3])));
  mlir::OpBuilder &builder = call.emitter.builder;
  Shape shape{q.shape[0], q.shape[1], q.shape[2], v.shape[3]};
  auto op = graph::AttentionOp::create(builder, call.emitter.location, call.emitter.type(q.type, shape),
                                       call.emitter.type(q.type, ShapeRef(shape).drop_back()), importer.force(q),
                                       importer.force(k), importer.force(v), bias, llvm::APFloat(scale), mask.causal,
                                       uint64_t(mask.window), llvm::APFloat(0.0), llvm::APFloat(dropout), uint64_t(id));
  resultShape.back() = v.shape[3];
  return {Value(importer.reshape(Tensor::of(op.getResult(), q.type), resultShape))};
}

} // namespace

void galvatron::importer::addAttentionRules(RuleTable &table) {
  table.add("aten::scaled_dot_product_attention", attention);
}
