//===- AttentionDocuments.cu - finds documents in rows -----------------------------------------------===//
#include "runtime/cuda/kernels/AttentionDocuments.h"
#include "runtime/cuda/kernels/Launch.h"

namespace galvatron::cuda {
namespace {

constexpr int kFindThreads = 1024;

/// Elements from one position to the next, by tensor.
struct PositionStrides {
  int64_t of[kDocumentTensors];
};

/// A block for each row; begins[r] is the position of its r-th document.
__global__ void __launch_bounds__(kFindThreads)
    findRow(const int64_t *documents, int64_t positions, FoundDocuments found, PositionStrides strides) {
  __shared__ int begins[kDocumentsOfRow + 1], before[kFindThreads / 32], isBad;
  const int64_t *row = documents + blockIdx.x * positions;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = 0;
  if (threadIdx.x == 0)
    isBad = 0;
  __syncthreads();
  for (int64_t chunk = 0; chunk < positions; chunk += kFindThreads) {
    int64_t at = chunk + threadIdx.x;
    bool there = at < positions, isBegin = there && (at == 0 || row[at] != row[at - 1]);
    if (there && at > 0 && row[at] < row[at - 1])
      isBad = 1;
    unsigned mask = __ballot_sync(0xFFFFFFFFu, isBegin);
    if (lane == 0)
      before[warp] = __popc(mask);
    __syncthreads();
    int rank = count + __popc(mask & ((1u << lane) - 1));
    for (int w = 0; w < kFindThreads / 32; ++w) {
      rank += w < warp ? before[w] : 0;
      count += before[w];
    }
    if (isBegin && rank < kDocumentsOfRow)
      begins[rank] = (int)at;
    __syncthreads();
  }
  if (threadIdx.x == 0 && (isBad || count > kDocumentsOfRow))
    atomicOr(found.areTooMany, 1);
  for (int r = threadIdx.x; r <= kDocumentsOfRow; r += kFindThreads) {
    int64_t begin = r < count && r < kDocumentsOfRow ? begins[r] : positions;
    int64_t end = r + 1 < count && r + 1 < kDocumentsOfRow ? begins[r + 1] : positions;
    int64_t entry = blockIdx.x * kDocumentsOfRow + r;
    if (r < kDocumentsOfRow)
      found.lengths[entry] = (int32_t)(end - begin);
    if (r < kDocumentsOfRow || entry == found.entries)
      for (int64_t tensor = 0; tensor < kDocumentTensors; ++tensor)
        found.offsetsOf(tensor)[entry] = (blockIdx.x * positions + begin) * strides.of[tensor];
  }
}

__global__ void emptyAll(FoundDocuments found) {
  for (int64_t e = threadIdx.x; *found.areTooMany && e < found.entries; e += blockDim.x)
    found.lengths[e] = 0;
}

__global__ void copyTransposed(const int32_t *unless, const float *from, float *to, int64_t heads, int64_t positions,
                               bool isBack) {
  int64_t position = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (position >= positions || *unless)
    return;
  for (int64_t n = 0; n < heads; ++n) {
    int64_t apart = (blockIdx.y * heads + n) * positions + position;    // [batch, heads, positions]
    int64_t together = (blockIdx.y * positions + position) * heads + n; // [batch, positions, heads]
    if (isBack)
      to[together] = from[apart];
    else
      to[apart] = from[together];
  }
}

} // namespace

FoundDocuments::FoundDocuments(const AttentionProblem &p, void *workspace)
    : entries(p.batch * kDocumentsOfRow), bytes(documentScratchBytes(p.batch, p.heads, p.queries)) {
  char *base = static_cast<char *>(workspace);
  areTooMany = reinterpret_cast<int32_t *>(base);
  lengths = areTooMany + 2;
  offsets = reinterpret_cast<int64_t *>(lengths + entries + entries % 2);
  lse = reinterpret_cast<float *>(base + documentHeadBytes(p.batch));
  rest = base + bytes;
}

bool takesDocuments(const AttentionProblem &p) {
  auto isPacked = [](const HeadStrides &s, int64_t heads, int64_t positions, int64_t size) {
    // What the kernel's gradients do not have is all zero.
    return s.position == 0 || (s.head >= size && s.position >= heads * s.head && s.batch == positions * s.position);
  };
  return p.queries == p.keys && p.keySize % 16 == 0 && p.valueSize % 16 == 0 &&
         documentScratchBytes(p.batch, p.heads, p.queries) < p.workspaceBytes &&
         isPacked(p.q, p.heads, p.queries, p.keySize) && isPacked(p.k, p.keyHeads, p.keys, p.keySize) &&
         isPacked(p.v, p.keyHeads, p.keys, p.valueSize) && isPacked(p.y, p.heads, p.queries, p.valueSize) &&
         isPacked(p.dy, p.heads, p.queries, p.valueSize) && isPacked(p.dq, p.heads, p.queries, p.keySize) &&
         isPacked(p.dk, p.keyHeads, p.keys, p.keySize) && isPacked(p.dv, p.keyHeads, p.keys, p.valueSize);
}

void findDocuments(gvrt_context *context, const AttentionProblem &p, const FoundDocuments &found) {
  cudaStream_t stream = stateOf(context).compute;
  PositionStrides strides{{p.q.position, p.k.position, p.v.position, p.y.position, p.dy.position, p.dq.position,
                           p.dk.position, p.dv.position, p.heads}};
  GVRT_CUDA(context, cudaMemsetAsync(found.areTooMany, 0, sizeof *found.areTooMany, stream));
  findRow<<<(int)p.batch, kFindThreads, 0, stream>>>(p.queryDocuments, p.queries, found, strides);
  emptyAll<<<1, 256, 0, stream>>>(found);
  GVRT_CUDA(context, cudaGetLastError());
}

void copyLse(gvrt_context *context, const AttentionProblem &p, const float *from, float *to, bool isBack) {
  constexpr int kThreads = 128;
  dim3 blocks((unsigned)divideUp(p.queries, kThreads), (unsigned)p.batch);
  copyTransposed<<<blocks, kThreads, 0, stateOf(context).compute>>>(p.onlyIf, from, to, p.heads, p.queries, isBack);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace galvatron::cuda
