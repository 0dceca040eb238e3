//===- CudnnAttention.cpp - attention through cuDNN -------------------------------------------------===//
//
// The only file that includes cudnn-frontend (it costs half a minute to compile). The frontend builds a graph of
// operations for softmax(q kᵀ) v, and for its gradients; cuDNN recognises it and runs one fused kernel. A graph belongs
// to a shape and its strides; addresses come with each call. cuDNN's statistics are the natural log-sum-exp of the
// scaled scores, our lse.
//
// Of the engines that the heuristic offers, the first is taken whose workspace fits the bytes that the plan has for it
// (AttentionWorkspace.h). The gradient of q is summed by atomics in the fast engines, so its last bits may differ from
// run to run; with GALVATRON_DETERMINISTIC=1 in the environment only engines without them are taken, about 10 % slower,
// on as many heads at a time as fit.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/kernels/AttentionProblem.h"
#include "runtime/cuda/kernels/AttentionWorkspace.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <cstdlib>
#include <map>

namespace galvatron::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Id : int64_t { kQ = 1, kK, kV, kY, kLse, kDy, kDq, kDk, kDv };

struct Plan {
  fe::graph::Graph graph;
  int64_t workspaceBytes = 0;
};

/// Everything that a graph depends on.
std::vector<int64_t> keyOf(const AttentionProblem &p, bool backward, bool deterministic) {
  std::vector<int64_t> key = {backward,
                              deterministic,
                              p.workspaceBytes,
                              p.batch,
                              p.type,
                              p.heads,
                              p.keyHeads,
                              p.queries,
                              p.keys,
                              p.keySize,
                              p.valueSize,
                              p.causal,
                              std::bit_cast<int64_t>(p.scale)};
  for (const HeadStrides *s : {&p.q, &p.k, &p.v, &p.y, &p.dy, &p.dq, &p.dk, &p.dv})
    key.insert(key.end(), {s->batch, s->head, s->position});
  return key;
}

fe::graph::Tensor_attributes describe(const char *name, Id id, int64_t batch, int64_t heads, int64_t positions,
                                      int64_t size, const HeadStrides &strides) {
  return fe::graph::Tensor_attributes()
      .set_name(name)
      .set_uid(id)
      .set_dim({batch, heads, positions, size})
      .set_stride({strides.batch, strides.head, strides.position, 1});
}

/// Makes a result of the graph one of ours.
void define(const Tensor &tensor, const fe::graph::Tensor_attributes &as) {
  tensor->set_output(true).set_uid(as.get_uid()).set_dim(as.get_dim()).set_stride(as.get_stride());
}

/// The causal mask whose last query sees the last key.
template <typename Options> void setMask(const AttentionProblem &p, Options &options) {
  if (!p.causal)
    return;
  if (p.queries == p.keys)
    options.set_causal_mask(true);
  else
    options.set_causal_mask_bottom_right(true);
}

struct Inputs {
  Tensor q, k, v;
};

Inputs addInputs(const AttentionProblem &p, fe::graph::Graph &graph) {
  return {graph.tensor(describe("q", kQ, p.batch, p.heads, p.queries, p.keySize, p.q)),
          graph.tensor(describe("k", kK, p.batch, p.keyHeads, p.keys, p.keySize, p.k)),
          graph.tensor(describe("v", kV, p.batch, p.keyHeads, p.keys, p.valueSize, p.v))};
}

fe::graph::Tensor_attributes describeLse(const AttentionProblem &p) {
  HeadStrides strides{p.heads * p.queries, p.queries, 1}; // a piece of the heads is one batch row: any stride does
  return describe("lse", kLse, p.batch, p.heads, p.queries, 1, strides).set_data_type(fe::DataType_t::FLOAT);
}

void addForward(const AttentionProblem &p, fe::graph::Graph &graph) {
  auto [q, k, v] = addInputs(p, graph);
  fe::graph::SDPA_attributes options;
  options.set_name("attention").set_generate_stats(true).set_attn_scale((float)p.scale);
  setMask(p, options);
  auto [y, lse] = graph.sdpa(q, k, v, options);
  define(y, describe("y", kY, p.batch, p.heads, p.queries, p.valueSize, p.y));
  define(lse, describeLse(p));
  lse->set_data_type(fe::DataType_t::FLOAT);
}

void addBackward(const AttentionProblem &p, fe::graph::Graph &graph, bool deterministic) {
  auto [q, k, v] = addInputs(p, graph);
  Tensor y = graph.tensor(describe("y", kY, p.batch, p.heads, p.queries, p.valueSize, p.y));
  Tensor dy = graph.tensor(describe("dy", kDy, p.batch, p.heads, p.queries, p.valueSize, p.dy));
  Tensor lse = graph.tensor(describeLse(p));
  fe::graph::SDPA_backward_attributes options;
  options.set_name("attention_backward").set_attn_scale((float)p.scale).set_deterministic_algorithm(deterministic);
  setMask(p, options);
  auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, y, dy, lse, options);
  define(dq, describe("dq", kDq, p.batch, p.heads, p.queries, p.keySize, p.dq));
  define(dk, describe("dk", kDk, p.batch, p.keyHeads, p.keys, p.keySize, p.dk));
  define(dv, describe("dv", kDv, p.batch, p.keyHeads, p.keys, p.valueSize, p.dv));
}

#define GVRT_FRONTEND(context, call)                                                                                   \
  do {                                                                                                                 \
    if (fe::error_t gvrtError = (call); gvrtError.is_bad()) [[unlikely]]                                               \
      GVRT_FAIL(context, "cudnn-frontend: " << gvrtError.get_message() << " in " << #call);                            \
  } while (false)

/// The first engine that can be built and fits; an error that says what the smallest needs if none does.
void chooseEngine(gvrt_context *context, const AttentionProblem &p, Plan &plan) {
  cudnnHandle_t handle = stateOf(context).cudnn;
  GVRT_FRONTEND(context, plan.graph.validate());
  GVRT_FRONTEND(context, plan.graph.build_operation_graph(handle));
  GVRT_FRONTEND(context, plan.graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}));
  int64_t smallest = -1, count = plan.graph.get_execution_plan_count();
  std::string reason = "no engine";
  for (int64_t i = 0; i < count; ++i) {
    if (fe::error_t error = plan.graph.build_plan_at_index(handle, i); error.is_bad()) {
      reason = error.get_message();
      continue;
    }
    int64_t bytes = plan.graph.get_workspace_size_plan_at_index(i);
    if (bytes <= p.workspaceBytes) {
      plan.workspaceBytes = bytes;
      return; // building an engine selects it
    }
    smallest = smallest < 0 ? bytes : std::min(smallest, bytes);
  }
  GVRT_CHECK(context, smallest < 0,
             "cuDNN's attention needs a workspace of " << smallest << " bytes, but the plan has " << p.workspaceBytes);
  GVRT_FAIL(context, "cuDNN has no attention kernel for heads " << p.heads << "/" << p.keyHeads << ", positions "
                                                                << p.queries << "/" << p.keys << ", sizes " << p.keySize
                                                                << "/" << p.valueSize << ": " << reason);
}

bool wantsDeterminism() {
  const char *text = std::getenv("GALVATRON_DETERMINISTIC");
  return text && std::string_view(text) == "1";
}

Plan &planFor(gvrt_context *context, const AttentionProblem &p, bool backward, bool deterministic) {
  static std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans;
  std::unique_ptr<Plan> &plan = plans[keyOf(p, backward, deterministic)];
  if (plan)
    return *plan;
  auto fresh = std::make_unique<Plan>();
  fresh->graph.set_io_data_type(p.type == GVRT_F16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  if (backward)
    addBackward(p, fresh->graph, deterministic);
  else
    addForward(p, fresh->graph);
  chooseEngine(context, p, *fresh);
  plan = std::move(fresh);
  return *plan;
}

bool alignedStrides(const HeadStrides &s) { return s.batch % 8 == 0 && s.head % 8 == 0 && s.position % 8 == 0; }

} // namespace

bool cudnnTakes(const AttentionProblem &p, bool hasBias) {
  bool usualPositions = !p.causal || (p.positions.dim[2].isIdentity() && p.positions.dim[3].isIdentity());
  bool usualSizes = p.keySize % 8 == 0 && p.valueSize % 8 == 0 && p.keySize <= 256 && p.valueSize <= 256 &&
                    std::min(p.keySize, p.valueSize) >= 64;
  bool usualMask = !p.causal || p.queries <= p.keys;
  bool usualStrides = alignedStrides(p.q) && alignedStrides(p.k) && alignedStrides(p.v) && alignedStrides(p.y) &&
                      alignedStrides(p.dy) && alignedStrides(p.dq) && alignedStrides(p.dk) && alignedStrides(p.dv);
  return isHalf(p.type) && !hasBias && !p.isCompiledToDrop && p.softcap == 0 && p.window == 0 && usualPositions &&
         usualSizes && usualMask && usualStrides && p.queries > 1 && p.keys > 1 && p.batch > 0;
}

void cudnnAttention(gvrt_context *context, const AttentionProblem &p, void *const *buffer) {
  std::unordered_map<int64_t, void *> addresses = {
      {kQ, buffer[0]}, {kK, buffer[1]}, {kV, buffer[2]}, {kY, buffer[4]}, {kLse, buffer[5]}};
  GVRT_FRONTEND(context, planFor(context, p, false, false).graph.execute(stateOf(context).cudnn, addresses, buffer[6]));
}

/// The backward pass of batch rows from `b` and key heads from `n` on, as many as `p` has.
static void runBackward(gvrt_context *context, const AttentionProblem &p, const AttentionProblem &whole,
                        bool deterministic, void *const *buffer, int64_t b, int64_t n) {
  int64_t query = n * (p.heads / p.keyHeads); // its first query head
  auto piece = [&](int i, const HeadStrides &strides, int64_t head) {
    return at<uint16_t>(buffer, i) + b * strides.batch + head * strides.head;
  };
  std::unordered_map<int64_t, void *> addresses = {
      {kDy, piece(0, p.dy, query)},
      {kQ, piece(1, p.q, query)},
      {kK, piece(2, p.k, n)},
      {kV, piece(3, p.v, n)},
      {kY, piece(4, p.y, query)},
      {kDq, piece(7, p.dq, query)},
      {kDk, piece(8, p.dk, n)},
      {kDv, piece(9, p.dv, n)},
      {kLse, at<float>(buffer, 5) + (b * whole.heads + query) * p.queries}};
  Plan &plan = planFor(context, p, true, deterministic);
  GVRT_FRONTEND(context, plan.graph.execute(stateOf(context).cudnn, addresses, buffer[10]));
}

void cudnnAttentionBackward(gvrt_context *context, const AttentionProblem &p, void *const *buffer) {
  bool deterministic = wantsDeterminism();
  AttentionProblem piece = p;
  auto fits = [&] {
    return deterministicWorkspaceBytes(piece.batch, piece.heads, piece.keyHeads, p.queries, p.keys,
                                       std::max(p.keySize, p.valueSize)) <= p.workspaceBytes;
  };
  if (deterministic && !fits()) {
    piece.batch = 1;
    for (int64_t cuts = 1; cuts <= p.keyHeads; ++cuts)
      if (p.keyHeads % cuts == 0) {
        piece.keyHeads = p.keyHeads / cuts;
        piece.heads = p.heads / cuts;
        if (fits())
          break;
      }
  }
  for (int64_t b = 0; b < p.batch; b += piece.batch)
    for (int64_t n = 0; n < p.keyHeads; n += piece.keyHeads)
      runBackward(context, piece, p, deterministic, buffer, b, n);
}

} // namespace galvatron::cuda

/// Bytes of scratch that the chosen engine takes, for measurements; -1 where a kernel of our own is taken.
extern "C" int64_t gvrt_attention_workspace(gvrt_context *context, const int64_t *attribute, int backward) {
  using namespace galvatron::cuda;
  AttentionProblem problem = readAttention(context, attribute, backward);
  return cudnnTakes(problem, false) ? planFor(context, problem, backward, false).workspaceBytes : -1;
}
