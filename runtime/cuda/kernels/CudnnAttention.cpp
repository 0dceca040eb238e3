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
// on as many heads at a time as fit, and rows of several documents go to our own kernels, which have no atomics.
//
// Rows of several documents are told as a batch of documents (AttentionDocuments.h): for each tensor the offset of each
// document in it, for each document its length.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/kernels/AttentionDocuments.h"
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

enum Id : int64_t { kQ = 1, kK, kV, kY, kLse, kDy, kDq, kDk, kDv, kLengths };
/// Of the offsets of a tensor's documents.
constexpr int64_t kOffsets = 100;

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
                              std::bit_cast<int64_t>(p.scale),
                              p.queryDocuments != nullptr};
  for (const HeadStrides *s : {&p.q, &p.k, &p.v, &p.y, &p.dy, &p.dq, &p.dk, &p.dv})
    key.insert(key.end(), {s->batch, s->head, s->position});
  return key;
}

/// The batch that the library sees.
int64_t batchOf(const AttentionProblem &p) { return p.queryDocuments ? p.batch * kDocumentsOfRow : p.batch; }

/// A tensor of [batch, heads, positions, size], and where it has documents, their offsets.
fe::graph::Tensor_attributes describe(const AttentionProblem &p, fe::graph::Graph &graph, const char *name, Id id,
                                      int64_t heads, int64_t positions, int64_t size, const HeadStrides &strides) {
  auto tensor = fe::graph::Tensor_attributes()
                    .set_name(name)
                    .set_uid(id)
                    .set_dim({batchOf(p), heads, positions, size})
                    .set_stride({strides.batch, strides.head, strides.position, 1});
  if (p.queryDocuments)
    tensor.set_ragged_offset(graph.tensor(fe::graph::Tensor_attributes()
                                              .set_name(std::string(name) + "_offsets")
                                              .set_uid(kOffsets + id)
                                              .set_dim({batchOf(p) + 1, 1, 1, 1})
                                              .set_stride({1, 1, 1, 1})
                                              .set_data_type(fe::DataType_t::INT64)));
  return tensor;
}

/// Makes a result of the graph one of ours.
void define(const Tensor &tensor, fe::graph::Tensor_attributes as) {
  tensor->set_output(true).set_uid(as.get_uid()).set_dim(as.get_dim()).set_stride(as.get_stride());
  if (as.get_ragged_offset())
    tensor->set_ragged_offset(as.get_ragged_offset());
}

/// Documents end where their lengths say; the causal mask is the one whose last query sees the last key.
template <typename Options> void setMask(const AttentionProblem &p, fe::graph::Graph &graph, Options &options) {
  if (p.queryDocuments) {
    Tensor lengths = graph.tensor(fe::graph::Tensor_attributes()
                                      .set_name("lengths")
                                      .set_uid(kLengths)
                                      .set_dim({batchOf(p), 1, 1, 1})
                                      .set_stride({1, 1, 1, 1})
                                      .set_data_type(fe::DataType_t::INT32));
    options.set_padding_mask(true).set_seq_len_q(lengths).set_seq_len_kv(lengths);
  }
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
  return {graph.tensor(describe(p, graph, "q", kQ, p.heads, p.queries, p.keySize, p.q)),
          graph.tensor(describe(p, graph, "k", kK, p.keyHeads, p.keys, p.keySize, p.k)),
          graph.tensor(describe(p, graph, "v", kV, p.keyHeads, p.keys, p.valueSize, p.v))};
}

fe::graph::Tensor_attributes describeLse(const AttentionProblem &p, fe::graph::Graph &graph) {
  HeadStrides strides{p.heads * p.queries, p.queries, 1}; // a piece of the heads is one batch row: any stride does
  if (p.queryDocuments)
    strides = {p.heads * p.queries, 1, p.heads};
  return describe(p, graph, "lse", kLse, p.heads, p.queries, 1, strides).set_data_type(fe::DataType_t::FLOAT);
}

void addForward(const AttentionProblem &p, fe::graph::Graph &graph) {
  auto [q, k, v] = addInputs(p, graph);
  fe::graph::SDPA_attributes options;
  options.set_name("attention").set_generate_stats(true).set_attn_scale((float)p.scale);
  setMask(p, graph, options);
  auto [y, lse] = graph.sdpa(q, k, v, options);
  define(y, describe(p, graph, "y", kY, p.heads, p.queries, p.valueSize, p.y));
  define(lse, describeLse(p, graph));
  lse->set_data_type(fe::DataType_t::FLOAT);
}

void addBackward(const AttentionProblem &p, fe::graph::Graph &graph, bool deterministic) {
  auto [q, k, v] = addInputs(p, graph);
  Tensor y = graph.tensor(describe(p, graph, "y", kY, p.heads, p.queries, p.valueSize, p.y));
  Tensor dy = graph.tensor(describe(p, graph, "dy", kDy, p.heads, p.queries, p.valueSize, p.dy));
  Tensor lse = graph.tensor(describeLse(p, graph));
  fe::graph::SDPA_backward_attributes options;
  options.set_name("attention_backward").set_attn_scale((float)p.scale).set_deterministic_algorithm(deterministic);
  setMask(p, graph, options);
  if (p.queryDocuments)
    options.set_max_total_seq_len_q(p.batch * p.queries).set_max_total_seq_len_kv(p.batch * p.keys);
  auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, y, dy, lse, options);
  define(dq, describe(p, graph, "dq", kDq, p.heads, p.queries, p.keySize, p.dq));
  define(dk, describe(p, graph, "dk", kDk, p.keyHeads, p.keys, p.keySize, p.dk));
  define(dv, describe(p, graph, "dv", kDv, p.keyHeads, p.keys, p.valueSize, p.dv));
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
  std::vector<int64_t> key = keyOf(p, backward, deterministic);
  key.push_back(stateOf(context).number); // a plan keeps the handle that it was built with
  std::unique_ptr<Plan> &plan = plans[key];
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
  bool usualPositions = !(p.causal || p.queryDocuments) || p.hasWholePositions();
  bool usualSizes = p.keySize % 8 == 0 && p.valueSize % 8 == 0 && p.keySize <= 256 && p.valueSize <= 256 &&
                    std::min(p.keySize, p.valueSize) >= 64;
  bool usualMask = !p.causal || p.queries <= p.keys;
  bool usualStrides = alignedStrides(p.q) && alignedStrides(p.k) && alignedStrides(p.v) && alignedStrides(p.y) &&
                      alignedStrides(p.dy) && alignedStrides(p.dq) && alignedStrides(p.dk) && alignedStrides(p.dv);
  return isHalf(p.type) && !hasBias && !p.isCompiledToDrop && p.softcap == 0 && p.window == 0 && usualPositions &&
         usualSizes && usualMask && usualStrides && p.queries > 1 && p.keys > 1 && p.batch > 0 &&
         (!p.queryDocuments || (takesDocuments(p) && !wantsDeterminism()));
}

/// Finds the documents, and adds what the library reads of them; what is left of the workspace.
static void *addDocuments(gvrt_context *context, AttentionProblem &p, const AttentionBuffers &buffers,
                          std::unordered_map<int64_t, void *> &addresses) {
  FoundDocuments found(p, buffers.workspace);
  findDocuments(context, p, found);
  p.onlyIf = found.areTooMany;
  addresses[kLengths] = found.lengths;
  addresses[kLse] = found.lse;
  const std::pair<Id, const HeadStrides *> tensors[] = {{kQ, &p.q},   {kK, &p.k},   {kV, &p.v},   {kY, &p.y},
                                                        {kDy, &p.dy}, {kDq, &p.dq}, {kDk, &p.dk}, {kDv, &p.dv}};
  for (int64_t i = 0; auto [id, strides] : tensors)
    addresses[kOffsets + id] = found.offsetsOf(i++);
  addresses[kOffsets + kLse] = found.offsetsOf(std::size(tensors));
  p.workspaceBytes -= found.bytes;
  return found.rest;
}

void cudnnAttention(gvrt_context *context, AttentionProblem &p, const AttentionBuffers &of) {
  std::unordered_map<int64_t, void *> addresses = {{kQ, of.q}, {kK, of.k}, {kV, of.v}, {kY, of.y}, {kLse, of.lse}};
  void *workspace = p.queryDocuments ? addDocuments(context, p, of, addresses) : of.workspace;
  GVRT_FRONTEND(context, planFor(context, p, false, false).graph.execute(stateOf(context).cudnn, addresses, workspace));
  if (p.queryDocuments)
    copyLse(context, p, static_cast<float *>(addresses[kLse]), static_cast<float *>(of.lse), /*isBack=*/false);
}

/// The backward pass of batch rows from `b` and key heads from `n` on, as many as `p` has.
static void runBackward(gvrt_context *context, const AttentionProblem &p, const AttentionProblem &whole,
                        bool deterministic, const AttentionBuffers &of, int64_t b, int64_t n) {
  int64_t query = n * (p.heads / p.keyHeads); // its first query head
  auto piece = [&](void *buffer, const HeadStrides &strides, int64_t head) {
    return static_cast<uint16_t *>(buffer) + b * strides.batch + head * strides.head;
  };
  std::unordered_map<int64_t, void *> addresses = {
      {kDy, piece(of.dy, p.dy, query)},
      {kQ, piece(of.q, p.q, query)},
      {kK, piece(of.k, p.k, n)},
      {kV, piece(of.v, p.v, n)},
      {kY, piece(of.y, p.y, query)},
      {kDq, piece(of.dq, p.dq, query)},
      {kDk, piece(of.dk, p.dk, n)},
      {kDv, piece(of.dv, p.dv, n)},
      {kLse, static_cast<float *>(of.lse) + (b * whole.heads + query) * p.queries}};
  Plan &plan = planFor(context, p, true, deterministic);
  GVRT_FRONTEND(context, plan.graph.execute(stateOf(context).cudnn, addresses, of.workspace));
}

static void runDocumentsBackward(gvrt_context *context, AttentionProblem &p, const AttentionBuffers &of) {
  std::unordered_map<int64_t, void *> addresses = {{kDy, of.dy}, {kQ, of.q},   {kK, of.k},   {kV, of.v},
                                                   {kY, of.y},   {kDq, of.dq}, {kDk, of.dk}, {kDv, of.dv}};
  void *workspace = addDocuments(context, p, of, addresses);
  copyLse(context, p, static_cast<float *>(of.lse), static_cast<float *>(addresses[kLse]), /*isBack=*/true);
  Plan &plan = planFor(context, p, true, false);
  GVRT_FRONTEND(context, plan.graph.execute(stateOf(context).cudnn, addresses, workspace));
}

void cudnnAttentionBackward(gvrt_context *context, AttentionProblem &p, const AttentionBuffers &of) {
  if (p.queryDocuments)
    return runDocumentsBackward(context, p, of);
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
      runBackward(context, piece, p, deterministic, of, b, n);
}

} // namespace galvatron::cuda

/// Bytes of scratch that the chosen engine takes, for measurements; -1 where a kernel of our own is taken.
extern "C" int64_t gvrt_attention_workspace(gvrt_context *context, const int64_t *attribute, int backward) {
  using namespace galvatron::cuda;
  AttentionProblem problem = readAttention(context, attribute, backward, /*documents=*/false);
  return cudnnTakes(problem, false) ? planFor(context, problem, backward, false).workspaceBytes : -1;
}
