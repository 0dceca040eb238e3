//===- Matmul.cpp - matrix products through cuBLASLt -------------------------------===//
//
// cuBLASLt's matrices are column-major, so a row-major c = a·b is handed over as cᵀ = bᵀ·aᵀ: operand "A" is our b. Each
// operand is normal or transposed by which of its strides is 1; a column-major result swaps the operands back. Batch
// loops that continue M, N or K are folded into them, one more becomes the library's strided batch, the rest are
// walked.
//
// A bias is the library's epilogue, an addend its C where the result is its D.
//
// The algorithm is chosen once for each product (types, shape, alignment, whether it accumulates, workspace): from the
// disk's cache, else, in the tuning walk, by measuring the heuristic's candidates back to back on the real buffers.
// Rank 0 of a stage chooses for all, so that replicas compute the same bits. Outside the tuning walk a product not seen
// before takes the heuristic's first candidate. Candidates must fit the planned workspace.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/AlgorithmCache.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/PlainMatmul.h"

#include <cstring>
#include <map>
#include <memory>
#include <optional>

namespace galvatron::cuda {

namespace {

constexpr int kCandidates = 16, kRounds = 3;
constexpr float kRoundMilliseconds = 2; // of one candidate: long enough to measure it under load

/// A column-major matrix as the library takes it: `rows` × `columns` before `transposed` is applied.
struct Operand {
  bool transposed;
  int64_t rows, columns, ld, batchStride;
};

/// What makes one call of the library: everything but the addresses. "A", "B" and "C" are the library's names.
struct Call {
  int64_t type, cType, m, n, k;
  Operand a, b, c;
  int64_t batch;
  bool swapped, accumulate;       // swapped: the library's A is our b
  int64_t alignA, alignB, alignC; // bytes, at most 256
  int64_t workspaceBytes;
  bool hasBias = false; // one value for each row of C

  std::string key() const {
    std::ostringstream text;
    text << "type " << type << ' ' << cType << " mnk " << m << ' ' << n << ' ' << k << " ta " << a.transposed << " tb "
         << b.transposed << " ld " << a.ld << ' ' << b.ld << ' ' << c.ld << " batch " << batch << ' ' << a.batchStride
         << ' ' << b.batchStride << ' ' << c.batchStride << " beta " << accumulate << " align " << alignA << ' '
         << alignB << ' ' << alignC << " workspace " << workspaceBytes << (hasBias ? " bias" : "");
    return text.str();
  }
};

/// Where the operands of a call are. What is added to the product is c itself where it accumulates, or the addend.
struct Addresses {
  const void *a, *b;
  void *c;
  const void *bias = nullptr, *addend = nullptr;
};

/// A matrix of rows × columns with these strides, column-major; nothing where neither stride is 1.
std::optional<Operand> columnMajor(int64_t rows, int64_t columns, int64_t rowStride, int64_t columnStride) {
  if ((rowStride == 1 || rows == 1) && (columnStride >= rows || columns == 1))
    return Operand{false, rows, columns, columns == 1 ? rows : columnStride, 0};
  if ((columnStride == 1 || columns == 1) && (rowStride >= columns || rows == 1))
    return Operand{true, columns, rows, rows == 1 ? columns : rowStride, 0};
  return {};
}

/// The largest power of two, at most 256, that divides address and batch stride.
int64_t alignmentOf(const void *address, int64_t strideBytes) {
  int64_t bytes = 256;
  while (!aligned(bytes, address, strideBytes))
    bytes /= 2;
  return bytes;
}

/// One batch loop at most; null where the library cannot express it.
std::optional<Call> describe(const Product &p, const Product::BatchLoop &loop, int64_t workspaceBytes) {
  std::optional<Operand> a = columnMajor(p.m, p.k, p.am, p.ak), b = columnMajor(p.k, p.n, p.bk, p.bn),
                         c = columnMajor(p.m, p.n, p.cm, p.cn);
  if (!a || !b || !c)
    return {};
  a->batchStride = loop.a;
  b->batchStride = loop.b;
  c->batchStride = loop.c;
  Call call{p.type, p.cType, p.m, p.n, p.k, *a, *b, *c, loop.extent, false, p.accumulate, 0, 0, 0, workspaceBytes};
  if (c->transposed) { // cᵀ = bᵀ·aᵀ
    call.swapped = true;
    std::swap(call.m, call.n);
    std::swap(call.a, call.b);
    call.a.transposed = !call.a.transposed;
    call.b.transposed = !call.b.transposed;
    call.c.transposed = false;
  }
  return call;
}

template <typename T, cublasStatus_t (*destroy)(T)> struct Handle {
  T value = nullptr;
  Handle() = default;
  Handle(const Handle &) = delete;
  ~Handle() {
    if (value)
      destroy(value);
  }
};
using Layout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

struct Plan {
  Description description;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  bool usable = false; // else the plain kernel takes the product
};

cudaDataType_t dataType(int64_t type) {
  return type == GVRT_BF16 ? CUDA_R_16BF : type == GVRT_F16 ? CUDA_R_16F : CUDA_R_32F;
}

void createLayout(gvrt_context *context, Layout &layout, int64_t type, const Operand &operand, int64_t batch) {
  GVRT_CUBLAS(context, cublasLtMatrixLayoutCreate(&layout.value, dataType(type), operand.rows, operand.columns,
                                                  std::max<int64_t>(operand.ld, 1)));
  int32_t count = (int32_t)batch;
  GVRT_CUBLAS(context,
              cublasLtMatrixLayoutSetAttribute(layout.value, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
  GVRT_CUBLAS(context, cublasLtMatrixLayoutSetAttribute(layout.value, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                        &operand.batchStride, sizeof operand.batchStride));
}

void setBias(gvrt_context *context, const Plan &plan, const void *bias) {
  GVRT_CUBLAS(context, cublasLtMatmulDescSetAttribute(plan.description.value, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                      sizeof bias));
}

void describePlan(gvrt_context *context, Plan &plan, const Call &call, const Addresses &at) {
  // f32 in, f32 out is computed in f32, never in TF32.
  GVRT_CUBLAS(context, cublasLtMatmulDescCreate(&plan.description.value, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  auto transpose = [&](cublasLtMatmulDescAttributes_t attribute, bool transposed) {
    cublasOperation_t operation = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    GVRT_CUBLAS(context,
                cublasLtMatmulDescSetAttribute(plan.description.value, attribute, &operation, sizeof operation));
  };
  transpose(CUBLASLT_MATMUL_DESC_TRANSA, call.a.transposed);
  transpose(CUBLASLT_MATMUL_DESC_TRANSB, call.b.transposed);
  createLayout(context, plan.a, call.type, call.a, call.batch);
  createLayout(context, plan.b, call.type, call.b, call.batch);
  createLayout(context, plan.c, call.cType, call.c, call.batch);
  if (!call.hasBias)
    return;
  auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    GVRT_CUBLAS(context, cublasLtMatmulDescSetAttribute(plan.description.value, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, dataType(call.cType));
  setBias(context, plan, at.bias);
}

std::vector<cublasLtMatmulAlgo_t> candidates(gvrt_context *context, const Plan &plan, const Call &call) {
  Preference preference;
  GVRT_CUBLAS(context, cublasLtMatmulPreferenceCreate(&preference.value));
  auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    GVRT_CUBLAS(context, cublasLtMatmulPreferenceSetAttribute(preference.value, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)call.workspaceBytes);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)call.alignA);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)call.alignB);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)call.alignC);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)call.alignC);
  cublasLtMatmulHeuristicResult_t results[kCandidates];
  int found = 0;
  cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(stateOf(context).cublas, plan.description.value, plan.a.value, plan.b.value,
                                     plan.c.value, plan.c.value, preference.value, kCandidates, results, &found);
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED)
    return algorithms;
  GVRT_CUBLAS(context, status);
  for (int i = 0; i < found; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS && (int64_t)results[i].workspaceSize <= call.workspaceBytes)
      algorithms.push_back(results[i].algo);
  return algorithms;
}

cublasStatus_t launch(gvrt_context *context, const Plan &plan, const cublasLtMatmulAlgo_t &algorithm,
                      const Addresses &at, bool accumulate) {
  State &state = stateOf(context);
  float one = 1, beta = accumulate ? 1 : 0;
  if (at.bias)
    setBias(context, plan, at.bias);
  return cublasLtMatmul(state.cublas, plan.description.value, &one, at.a, plan.a.value, at.b, plan.b.value, &beta,
                        at.addend ? at.addend : at.c, plan.c.value, at.c, plan.c.value, &algorithm, state.workspace,
                        state.workspaceBytes, state.compute);
}

struct Event {
  cudaEvent_t value = nullptr;
  explicit Event(gvrt_context *context) { GVRT_CUDA(context, cudaEventCreate(&value)); }
  Event(const Event &) = delete;
  ~Event() { cudaEventDestroy(value); }
};

/// The fastest: of kRounds rounds over all candidates each one's best, so that clocks that fall while it is measured
/// hit none alone.
cublasLtMatmulAlgo_t measure(gvrt_context *context, const Plan &plan,
                             const std::vector<cublasLtMatmulAlgo_t> &algorithms, const Addresses &at,
                             bool accumulate) {
  cudaStream_t stream = stateOf(context).compute;
  Event start(context), end(context);
  auto time = [&](const cublasLtMatmulAlgo_t &algorithm, int count) {
    GVRT_CUDA(context, cudaEventRecord(start.value, stream));
    for (int i = 0; i < count; ++i)
      if (launch(context, plan, algorithm, at, accumulate) != CUBLAS_STATUS_SUCCESS)
        return std::numeric_limits<float>::infinity();
    GVRT_CUDA(context, cudaEventRecord(end.value, stream));
    Waiting waiting(context->progress, "the GPU");
    GVRT_CUDA(context, cudaEventSynchronize(end.value));
    float milliseconds = 0;
    GVRT_CUDA(context, cudaEventElapsedTime(&milliseconds, start.value, end.value));
    return milliseconds / (float)count;
  };
  time(algorithms[0], 1); // loads the library's kernels
  float first = std::max(time(algorithms[0], 1), 1e-3f);
  int count = (int)std::clamp(kRoundMilliseconds / first, 2.0f, 50.0f);
  std::vector<float> best(algorithms.size(), std::numeric_limits<float>::infinity());
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < algorithms.size(); ++i) {
      if (round == 0)
        time(algorithms[i], 1);
      best[i] = std::min(best[i], time(algorithms[i], count));
    }
  return algorithms[std::min_element(best.begin(), best.end()) - best.begin()];
}

/// Plans of this process.
struct Plans {
  std::map<std::string, std::unique_ptr<Plan>> byKey;
  std::unique_ptr<AlgorithmCache> cache;
};

Plans &plans() {
  static Plans instance;
  return instance;
}

/// This rank's own choice; false where the library has none.
bool choose(gvrt_context *context, const Plan &plan, const Call &call, const std::string &key, const Addresses &at,
            cublasLtMatmulAlgo_t &algorithm) {
  State &state = stateOf(context);
  std::unique_ptr<AlgorithmCache> &cache = plans().cache;
  if (!cache)
    cache = std::make_unique<AlgorithmCache>();
  if (const cublasLtMatmulAlgo_t *kept = cache->find(key)) {
    cublasLtMatmulHeuristicResult_t result;
    if (cublasLtMatmulAlgoCheck(state.cublas, plan.description.value, plan.a.value, plan.b.value, plan.c.value,
                                plan.c.value, kept, &result) == CUBLAS_STATUS_SUCCESS &&
        (int64_t)result.workspaceSize <= call.workspaceBytes) {
      algorithm = *kept;
      return true;
    }
  }
  std::vector<cublasLtMatmulAlgo_t> found = candidates(context, plan, call);
  if (found.empty())
    return false;
  algorithm = found[0];
  if (!state.tuning)
    return true;
  if (found.size() > 1)
    algorithm = measure(context, plan, found, at, call.accumulate);
  cache->keep(key, algorithm);
  return true;
}

const Plan &planFor(gvrt_context *context, const Call &call, const Addresses &at) {
  std::string key = call.key();
  std::unique_ptr<Plan> &plan = plans().byKey[key];
  if (plan)
    return *plan;
  plan = std::make_unique<Plan>();
  describePlan(context, *plan, call, at);
  struct {
    cublasLtMatmulAlgo_t algorithm;
    bool usable;
  } choice{};
  // In the tuning walk every rank of the stage comes by here, with the same product.
  bool shared = stateOf(context).tuning && context->devices > 1;
  if (!shared || context->device == 0)
    choice.usable = choose(context, *plan, call, key, at, choice.algorithm);
  if (shared)
    broadcastInStage(context, &choice, sizeof choice);
  plan->algorithm = choice.algorithm;
  plan->usable = choice.usable;
  return *plan;
}

/// By the library; false where it has no call for the product.
bool multiplyByLibrary(gvrt_context *context, const Product &p, const Product::BatchLoop &loop, Addresses at) {
  int64_t size = bytesOfElement(p.type), cSize = bytesOfElement(p.cType);
  std::optional<Call> call = describe(p, loop, stateOf(context).workspaceBytes);
  if (!call || loop.extent > INT32_MAX || p.k == 0)
    return false;
  if (call->swapped)
    std::swap(at.a, at.b);
  call->alignA = alignmentOf(at.a, call->batch > 1 ? call->a.batchStride * size : 0);
  call->alignB = alignmentOf(at.b, call->batch > 1 ? call->b.batchStride * size : 0);
  call->alignC = alignmentOf(at.c, call->batch > 1 ? call->c.batchStride * cSize : 0);
  if (at.addend) {
    call->accumulate = true;
    call->alignC = std::min(call->alignC, alignmentOf(at.addend, 0));
  }
  call->hasBias = at.bias;
  // A bias is one value for each row of the library's matrix, which is a column of ours.
  if (at.bias && (!call->swapped || !aligned(16, at.bias)))
    return false;
  const Plan &plan = planFor(context, *call, at);
  if (plan.usable)
    GVRT_CUBLAS(context, launch(context, plan, plan.algorithm, at, call->accumulate));
  return plan.usable;
}

/// A product with at most one batch loop.
void multiply(gvrt_context *context, const Product &p, const Product::BatchLoop &loop, const void *a, const void *b,
              void *c) {
  if (multiplyByLibrary(context, p, loop, {a, b, c}))
    return;
  Product own = p;
  own.batch = {loop};
  multiplyPlain(context, own, a, b, c);
}

/// Walks the left-over batch loops but for the last; one along which the result does not move is a sum.
void walk(gvrt_context *context, Product &p, size_t depth, const char *a, const char *b, char *c) {
  int64_t size = bytesOfElement(p.type), cSize = bytesOfElement(p.cType);
  bool last = depth + 1 >= p.batch.size();
  if (last && (depth == p.batch.size() || p.batch[depth].c != 0))
    return multiply(context, p, depth < p.batch.size() ? p.batch[depth] : Product::BatchLoop{1, 0, 0, 0}, a, b, c);
  const Product::BatchLoop &loop = p.batch[depth];
  bool accumulate = p.accumulate;
  for (int64_t i = 0; i < loop.extent; ++i) {
    p.accumulate = accumulate || (loop.c == 0 && i > 0);
    walk(context, p, depth + 1, a + i * loop.a * size, b + i * loop.b * size, c + i * loop.c * cSize);
  }
  p.accumulate = accumulate;
}

} // namespace
} // namespace galvatron::cuda

using namespace galvatron;
using namespace galvatron::cuda;

void gvrt_matmul(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Product p = readProduct(attribute);
  if (p.m == 0 || p.n == 0)
    return;
  // Sums outermost, then by extent: the longest loop is the library's.
  std::stable_sort(p.batch.begin(), p.batch.end(), [](const Product::BatchLoop &x, const Product::BatchLoop &y) {
    return std::pair(x.c != 0, x.extent) < std::pair(y.c != 0, y.extent);
  });
  walk(context, p, 0, at<const char>(buffer, 0), at<const char>(buffer, 1), at<char>(buffer, 2));
}

void gvrt_matmul_add(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  Product p;
  for (int64_t *word : {&p.type, &p.cType, &p.m, &p.n, &p.k, &p.am, &p.ak, &p.bk, &p.bn, &p.cm})
    *word = read.integer();
  p.cn = 1;
  p.accumulate = false;
  if (p.m == 0 || p.n == 0)
    return;
  Addresses at{buffer[0], buffer[1], buffer[4], buffer[2], buffer[3]};
  if (multiplyByLibrary(context, p, {1, 0, 0, 0}, at))
    return;
  addPlain(context, p, at.bias, at.addend, at.c);
  p.accumulate = true;
  multiplyPlain(context, p, at.a, at.b, at.c);
}
