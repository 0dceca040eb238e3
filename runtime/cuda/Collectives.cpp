//===- Collectives.cpp - collectives over NCCL ------------------------------------------------------------===//
//
// NCCL moves whole buffers. Where pieces lie one after another that is all; else
//
//   few outer indices      one call for each, as one group
//   many                   packed through the arena's workspace in parts: pack -> NCCL -> unpack
//
// The workspace belongs to products on `compute`, so a packed collective is done, as `compute` sees it, when it
// returns, even where it has a handle. While tuning all are, so that a failure is told by its entry, and products are
// measured alone.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/Pieces.h"
#include "runtime/kernels/Attributes.h"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

/// Outer indices up to which a group of calls is used: NCCL runs it as one kernel.
constexpr int64_t kGrouped = 32;

struct ElementInfo {
  ncclDataType_t type;
  int64_t bytes;
};

ElementInfo elementOf(gvrt_context *context, int64_t type) {
  switch (type) {
  case GVRT_F32:
    return {ncclFloat32, 4};
  case GVRT_I64:
    return {ncclInt64, 8};
  case GVRT_BF16:
    return {ncclBfloat16, 2};
  case GVRT_F16:
    return {ncclFloat16, 2};
  }
  GVRT_FAIL(context, "expects an element type from 0 to 3, but got " << type);
}

ncclRedOp_t reductionOf(int64_t kind) { return kind == 0 ? ncclSum : ncclMax; }

/// One call of a collective: forks its communicator's stream from `compute`, joins it at once or by its handle.
class Issue {
public:
  Issue(gvrt_context *context, Line &line, int64_t handle)
      : context(context), state(stateOf(context)), line(line), handle(handle) {
    fork(context, line.side);
  }
  ncclComm_t communicator() const { return line.communicator; }
  cudaStream_t stream() const { return line.side.stream; }
  /// `now`: whatever the handle says.
  void finish(bool now = false) {
    if (now || handle < 0 || state.tuning)
      join(context, line.side);
    if (handle >= 0)
      joinLater(context, line.side.stream, handle);
  }

private:
  gvrt_context *context;
  State &state;
  Line &line;
  int64_t handle;
};

/// A collective of one rank: by `move` on `compute`.
template <typename F> void issueAlone(gvrt_context *context, int64_t handle, F &&move) {
  cudaStream_t compute = stateOf(context).compute;
  move(compute);
  if (handle >= 0)
    joinLater(context, compute, handle);
}
void copyAlone(gvrt_context *context, const void *x, void *y, int64_t bytes, int64_t handle) {
  issueAlone(context, handle, [&](cudaStream_t compute) {
    if (x != y)
      GVRT_CUDA(context, cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, compute));
  });
}

/// Bytes of the workspace that a part of a packed collective may take.
int64_t partBytes(gvrt_context *context, int64_t least) {
  int64_t bytes = stateOf(context).workspaceBytes;
  GVRT_CHECK(context, bytes >= least,
             "a collective of pieces that are not contiguous needs " << least << " bytes of workspace, but there are "
                                                                     << bytes);
  return bytes;
}

/// One half of `rows` outer indices, x or y as [outer][group][inner] against contiguous [group][rows][inner].
PieceLoops whole(const PieceHalf &half, int64_t size, int64_t rows, int64_t inner, bool pack) {
  PieceLoops loops = {{size, half.reversed ? -inner : inner, rows * inner},
                      {half.count, half.step * size * inner, half.step * inner},
                      {inner, 1, 1}};
  if (!pack)
    for (StridedLoop &loop : loops)
      std::swap(loop.x, loop.y);
  return loops;
}

/// An all_gather or a reduce_scatter: one side is [outer][inner], the other has a piece of every rank,
/// [outer][group][inner].
struct Interleaved {
  gvrt_context *context;
  int64_t group;
  ElementInfo element;
  int64_t outer = 0, inner = 0, handle = -1;
  bool mirrored = false;
  const char *x = nullptr;
  char *y = nullptr;

  /// The attributes that both end with.
  void read(Attributes &attributes, void *const *buffer) {
    outer = attributes.integer();
    inner = attributes.integer();
    mirrored = attributes.integer();
    handle = attributes.integer();
    x = static_cast<const char *>(buffer[0]);
    y = static_cast<char *>(buffer[1]);
  }

  /// `call(from, to, elements of one rank, communicator, stream)` is NCCL's function.
  template <typename F> void issue(bool gathers, F &&call) const {
    const char *x = this->x ? this->x : y + context->groups[group].position * inner * element.bytes;
    Line *line = lineOf(context, group);
    if (!line)
      return copyAlone(context, x, y, outer * inner * element.bytes, handle);
    int64_t size = context->groups[group].ranks.size(), row = inner * element.bytes;
    int64_t xRow = gathers ? row : size * row, yRow = gathers ? size * row : row;
    Issue issue(context, *line, handle);
    auto move = [&](const char *from, char *to, int64_t count) {
      GVRT_NCCL(context, call(from, to, count, issue.communicator(), issue.stream()));
    };
    if (outer <= kGrouped && !mirrored) {
      GVRT_NCCL(context, ncclGroupStart());
      for (int64_t o = 0; o < outer; ++o)
        move(x + o * xRow, y + o * yRow, inner);
      GVRT_NCCL(context, ncclGroupEnd());
      return issue.finish();
    }
    auto *all = static_cast<char *>(stateOf(context).workspace);
    int64_t unit = mirrored ? 2 : 1; // rows that stay together
    int64_t part = partBytes(context, unit * size * row) / (unit * size * row) * unit;
    for (int64_t o = 0; o < outer; o += part) {
      int64_t rows = std::min(part, outer - o);
      auto copyHalves = [&](const char *from, char *to) {
        for (const PieceHalf &half : pieceHalves(rows, mirrored)) {
          int64_t at = (half.first * size + half.place(0, size)) * row, packedAt = half.first * row;
          copyPieces(context, issue.stream(), from + (gathers ? packedAt : at), to + (gathers ? at : packedAt),
                     element.bytes, whole(half, size, rows, inner, /*pack=*/!gathers));
        }
      };
      if (!gathers)
        copyHalves(x + o * xRow, all);
      move(gathers ? x + o * xRow : all, gathers ? all : y + o * yRow, rows * inner);
      if (gathers)
        copyHalves(all, y + o * yRow);
    }
    issue.finish(/*now=*/true);
  }
};

} // namespace

void gvrt_all_reduce(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t group = read.integer();
  ElementInfo element = elementOf(context, read.integer());
  int64_t kind = read.integer(), count = read.integer(), handle = read.integer();
  Line *line = lineOf(context, group);
  if (!line)
    return copyAlone(context, buffer[0], buffer[1], count * element.bytes, handle);
  Issue issue(context, *line, handle);
  GVRT_NCCL(context, ncclAllReduce(buffer[0], buffer[1], count, element.type, reductionOf(kind), issue.communicator(),
                                   issue.stream()));
  issue.finish();
}

void gvrt_all_gather(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  Interleaved call{context, read.integer(), elementOf(context, read.integer())};
  call.read(read, buffer);
  call.issue(/*gathers=*/true,
             [&](const char *x, char *y, int64_t count, ncclComm_t communicator, cudaStream_t stream) {
               return ncclAllGather(x, y, count, call.element.type, communicator, stream);
             });
}

void gvrt_reduce_scatter(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  Interleaved call{context, read.integer(), elementOf(context, read.integer())};
  ncclRedOp_t reduction = reductionOf(read.integer());
  call.read(read, buffer);
  call.issue(/*gathers=*/false,
             [&](const char *x, char *y, int64_t count, ncclComm_t communicator, cudaStream_t stream) {
               return ncclReduceScatter(x, y, count, call.element.type, reduction, communicator, stream);
             });
}

namespace {

/// Every rank sends rank r the piece at x + r·xStep, its elements `loops` apart, and gets y + r·yStep from it.
struct Exchange {
  gvrt_context *context;
  ncclComm_t communicator;
  cudaStream_t stream;
  int64_t size, own, bytes, xStep, yStep; // ranks, this one of them; bytes of an element; steps in elements
  const char *x;
  char *y;

  /// Both sides contiguous pieces of `count` elements. A rank's own is copied: through NCCL it would take buffers, too.
  void exchange(const char *from, int64_t fromStep, char *to, int64_t toStep, int64_t count) const {
    GVRT_CUDA(context, cudaMemcpyAsync(to + own * toStep * bytes, from + own * fromStep * bytes, count * bytes,
                                       cudaMemcpyDeviceToDevice, stream));
    GVRT_NCCL(context, ncclGroupStart());
    for (int64_t r = 0; r < size; ++r) {
      if (r == own)
        continue;
      GVRT_NCCL(context, ncclSend(from + r * fromStep * bytes, count * bytes, ncclInt8, r, communicator, stream));
      GVRT_NCCL(context, ncclRecv(to + r * toStep * bytes, count * bytes, ncclInt8, r, communicator, stream));
    }
    GVRT_NCCL(context, ncclGroupEnd());
  }

  /// One part, packed on both sides.
  void operator()(const PieceLoops &part, int64_t xOffset, int64_t yOffset) const {
    int64_t count = numElements(part);
    auto *sent = static_cast<char *>(stateOf(context).workspace), *received = sent + size * count * bytes;
    PieceLoops in = packed(part, /*packX=*/false), out = packed(part, /*packX=*/true);
    in.insert(in.begin(), {size, xStep, count});
    out.insert(out.begin(), {size, count, yStep});
    copyPieces(context, stream, x + xOffset * bytes, sent, bytes, in);
    exchange(sent, count, received, count, count);
    copyPieces(context, stream, received, y + yOffset * bytes, bytes, out);
  }
};

} // namespace

// As runtime/comm/Collectives.cpp, where the cut is drawn.
void gvrt_all_to_all(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t group = read.integer();
  ElementInfo element = elementOf(context, read.integer());
  int64_t rank = read.integer(), size = context->groups[group].ranks.size();
  const int64_t *extents = read.list(rank);
  int64_t splitDim = read.integer(), splitOuter = read.integer(), concatDim = read.integer(),
          concatOuter = read.integer(), handle = read.integer();
  AllToAllPieces pieces;
  std::string problem = allToAllPieces(rank, extents, size, splitDim, splitOuter, concatDim, concatOuter, pieces);
  GVRT_CHECK(context, problem.empty(), problem);
  Line *line = lineOf(context, group);
  if (!line)
    return issueAlone(context, handle, [&](cudaStream_t compute) {
      copyPieces(context, compute, buffer[0], buffer[1], element.bytes, pieces.loops);
    });
  Issue issue(context, *line, handle);
  Exchange exchange{context,
                    issue.communicator(),
                    issue.stream(),
                    size,
                    context->groups[group].position,
                    element.bytes,
                    pieces.xStep,
                    pieces.yStep,
                    static_cast<const char *>(buffer[0]),
                    static_cast<char *>(buffer[1])};
  bool isContiguousOnBoth = isContiguous(pieces.loops, /*x=*/true) && isContiguous(pieces.loops, /*x=*/false);
  if (isContiguousOnBoth)
    exchange.exchange(exchange.x, pieces.xStep, exchange.y, pieces.yStep, numElements(pieces.loops));
  else
    forParts(merged(pieces.loops), partBytes(context, 2 * size * element.bytes) / (2 * size * element.bytes), exchange);
  issue.finish(/*now=*/!isContiguousOnBoth);
}

void gvrt_permute(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t group = read.integer();
  ElementInfo element = elementOf(context, read.integer());
  int64_t count = read.integer(), size = read.integer();
  const int64_t *sources = read.list(size);
  int64_t handle = read.integer();
  const Group &members = context->groups[group];
  Partners partners;
  std::string problem = permutePartners(sources, size, members.ranks.size(), members.position, partners);
  GVRT_CHECK(context, problem.empty(), problem);
  size_t bytes = count * element.bytes;
  if (partners.source == members.position)
    return copyAlone(context, buffer[0], buffer[1], bytes, handle);
  Issue issue(context, *lineOf(context, group), handle);
  GVRT_NCCL(context, ncclGroupStart());
  GVRT_NCCL(context, ncclSend(buffer[0], bytes, ncclInt8, partners.target, issue.communicator(), issue.stream()));
  GVRT_NCCL(context, ncclRecv(buffer[1], bytes, ncclInt8, partners.source, issue.communicator(), issue.stream()));
  GVRT_NCCL(context, ncclGroupEnd());
  issue.finish();
}
