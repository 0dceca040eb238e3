//===- Collectives.cpp - collectives over MPI -------------------------------------------------------------===//
//
// Reductions are built from exchanges: every rank receives all contributions to the piece it is responsible for and
// adds them in the order of ranks, then pieces are gathered. So each sum is computed once, in one order, whatever
// algorithm MPI would have chosen: replicas stay bitwise equal and a run repeats exactly. Traffic is that of a ring.
//
//   all_reduce, 2 ranks    [a0 a1] [b0 b1]  exchange  [a0 b0] [a1 b1]  add  [a0+b0] [a1+b1]  gather  both on each
//
// Data that is not contiguous, and contributions, pass through the context's workspace in parts, so no collective
// allocates in proportion to what it moves.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/comm/Pieces.h"
#include "runtime/comm/UnderWay.h"
#include "runtime/core/Check.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/HalfTypes.h"
#include "runtime/kernels/Loops.h"

#include <cstring>

using namespace galvatron;

namespace {

enum ReduceKind { kSum, kMax };

/// Bytes of workspace that one part of a collective uses, sends and receives together.
constexpr int64_t kStaging = 4 << 20;

/// Bytes of one message: MPI counts are int.
constexpr int64_t kLongest = 1 << 30;

MPI_Datatype datatype(int64_t type) { return type == GVRT_F32 ? MPI_FLOAT : isHalf(type) ? MPI_UINT16_T : MPI_INT64_T; }

int64_t readType(gvrt_context *context, Attributes &read) {
  int64_t type = read.integer();
  GVRT_CHECK(context, type == GVRT_F32 || type == GVRT_I64 || isHalf(type),
             "expects an element type of 0, 1, 2 or 3, but got " << type);
  return type;
}

/// A collective is done when its function returns; one that is waited for later is remembered as such.
void finish(gvrt_context *context, int64_t handle) {
  if (handle < 0)
    return;
  startUnderWay(context, handle).requests = {MPI_REQUEST_NULL};
}

const Group &groupOf(gvrt_context *context, int64_t index) {
  GVRT_CHECK(context, index >= 0 && index < (int64_t)context->groups.size(),
             "expects a group below " << context->groups.size() << ", but got " << index);
  context->operationGroup = &context->groups[index];
  return context->groups[index];
}

/// into = reduction of into and x
void combine(int64_t element, int64_t kind, const void *x, void *into, int64_t count) {
  if (element == GVRT_F32) {
    auto *from = static_cast<const float *>(x);
    auto *to = static_cast<float *>(into);
    return kind == kSum ? loops().add(from, to, count) : loops().maxRows(from, count, to, 1, count);
  }
  auto *from = static_cast<const int64_t *>(x);
  auto *to = static_cast<int64_t *>(into);
  for (int64_t i = 0; i < count; ++i)
    to[i] = kind == kSum ? to[i] + from[i] : std::max(to[i], from[i]);
}

/// The same for floats of 16 bits: sums in f32, rounded once.
template <typename Half> void combineHalves(int64_t kind, Half *contributions, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; ++i) {
    float total = (float)contributions[i];
    for (int64_t r = 1; r < size; ++r) {
      float x = (float)contributions[r * count + i];
      total = kind == kSum ? total + x : x > total || x != x ? x : total;
    }
    contributions[i] = Half(total);
  }
}

/// Reduces `size` contributions that lie one after another, into the first.
void combineAll(int64_t element, int64_t kind, char *contributions, int64_t count, int64_t size) {
  if (isHalf(element))
    return withHalf(element, [&]<typename Half>(Half) {
      combineHalves(kind, reinterpret_cast<Half *>(contributions), count, size);
    });
  for (int64_t r = 1; r < size; ++r)
    combine(element, kind, contributions + r * count * bytesOfElement(element), contributions, count);
}

/// One part of an all-reduce that is too short to cut: every rank gets all contributions.
void reduceShort(gvrt_context *context, const Group &group, int64_t element, int64_t kind, const char *x, char *y,
                 int64_t count) {
  int64_t size = group.ranks.size(), bytes = count * bytesOfElement(element);
  char *all = static_cast<char *>(context->workspace.bytes(size * bytes));
  GVRT_MPI(context, MPI_Allgather(x, count, datatype(element), all, count, datatype(element), group.communicator));
  combineAll(element, kind, all, count, size);
  std::memcpy(y, all, bytes);
}

/// One part of an all-reduce, cut among the ranks; the first `count % size` pieces are one element longer.
void reducePart(gvrt_context *context, const Group &group, int64_t element, int64_t kind, const char *x, char *y,
                int64_t count) {
  int size = group.ranks.size();
  std::vector<int> counts(size), starts(size), mine(size), mineStarts(size);
  for (int r = 0, start = 0; r < size; start += counts[r++]) {
    counts[r] = count / size + (r < count % size);
    starts[r] = start;
  }
  int own = counts[group.position];
  for (int r = 0; r < size; ++r) {
    mine[r] = own;
    mineStarts[r] = r * own;
  }
  int64_t bytes = bytesOfElement(element);
  char *all = static_cast<char *>(context->workspace.bytes(std::max<int64_t>(1, size * own * bytes)));
  MPI_Datatype type = datatype(element);
  GVRT_MPI(context, MPI_Alltoallv(x, counts.data(), starts.data(), type, all, mine.data(), mineStarts.data(), type,
                                  group.communicator));
  combineAll(element, kind, all, own, size);
  std::memcpy(y + starts[group.position] * bytes, all, own * bytes);
  GVRT_MPI(context, MPI_Allgatherv(MPI_IN_PLACE, 0, type, y, counts.data(), starts.data(), type, group.communicator));
}

/// Sends every rank its part of x, receives this rank's parts; both through the workspace. `xStep`, `yStep`: elements
/// from one rank's piece to the next, `reversed`: x's lie in the opposite order. Where `reduceKind` is not negative the
/// received parts are reduced into y's one.
struct Exchange {
  gvrt_context *context;
  const Group &group;
  int64_t element, xStep, yStep, reduceKind;
  const char *x;
  char *y;
  bool reversed = false;

  void operator()(const PieceLoops &part, int64_t xOffset, int64_t yOffset) const {
    int64_t size = group.ranks.size(), bytes = bytesOfElement(element), count = numElements(part);
    char *sent = static_cast<char *>(context->workspace.bytes(2 * size * count * bytes));
    char *received = sent + size * count * bytes;
    for (int64_t r = 0; r < size; ++r)
      copyStrided(x + (xOffset + (reversed ? size - 1 - r : r) * xStep) * bytes, sent + r * count * bytes, bytes,
                  packed(part, /*packX=*/false));
    GVRT_MPI(context,
             MPI_Alltoall(sent, count, datatype(element), received, count, datatype(element), group.communicator));
    if (reduceKind >= 0)
      combineAll(element, reduceKind, received, count, size);
    for (int64_t r = 0; r < (reduceKind >= 0 ? 1 : size); ++r)
      copyStrided(received + r * count * bytes, y + (yOffset + r * yStep) * bytes, bytes, packed(part, /*packX=*/true));
  }
};

int64_t partElements(const Group &group, int64_t element) {
  return std::max<int64_t>(1, kStaging / (2 * (int64_t)group.ranks.size() * bytesOfElement(element)));
}

} // namespace

void gvrt_all_reduce(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Operation operation(context, "all_reduce");
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t element = readType(context, read), kind = read.integer(), count = read.integer(), handle = read.integer();
  int64_t bytes = bytesOfElement(element);
  auto *x = static_cast<const char *>(buffer[0]);
  auto *y = static_cast<char *>(buffer[1]);
  int64_t size = group.ranks.size();
  if (size == 1) {
    if (x != y)
      std::memcpy(y, x, count * bytes);
    return finish(context, handle);
  }
  constexpr int64_t kShort = 8 << 10; // bytes; below this latency decides, so one exchange instead of two
  int64_t part = kStaging / bytes;
  if (count * bytes <= kShort)
    reduceShort(context, group, element, kind, x, y, count);
  else
    for (int64_t first = 0; first < count; first += part)
      reducePart(context, group, element, kind, x + first * bytes, y + first * bytes, std::min(part, count - first));
  finish(context, handle);
}

void gvrt_all_gather(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Operation operation(context, "all_gather");
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t element = readType(context, read), outer = read.integer(), inner = read.integer();
  bool mirrored = read.integer();
  int64_t handle = read.integer(), bytes = bytesOfElement(element), size = group.ranks.size();
  auto *x = static_cast<const char *>(buffer[0]);
  auto *y = static_cast<char *>(buffer[1]);
  if (!x)
    x = y + group.position * inner * bytes;
  if (size == 1) {
    if (x != y)
      std::memcpy(y, x, outer * inner * bytes);
    return finish(context, handle);
  }
  for (const PieceHalf &half : pieceHalves(outer, mirrored)) {
    PieceLoops loops = {{half.count, half.step * inner, half.step * inner * size}, {inner, 1, 1}};
    forParts(loops, partElements(group, element), [&](const PieceLoops &part, int64_t xOffset, int64_t yOffset) {
      // Without a step between them, a part's outer indices are contiguous in x.
      int64_t count = numElements(part);
      char *all = static_cast<char *>(context->workspace.bytes((size + 1) * count * bytes));
      const char *own = x + (half.first * inner + xOffset) * bytes;
      if (half.step > 1) {
        copyStrided(own, all + size * count * bytes, bytes, packed(part, /*packX=*/false));
        own = all + size * count * bytes;
      }
      GVRT_MPI(context,
               MPI_Allgather(own, count, datatype(element), all, count, datatype(element), group.communicator));
      for (int64_t r = 0; r < size; ++r)
        copyStrided(all + r * count * bytes,
                    y + (half.first * inner * size + yOffset + half.place(r, size) * inner) * bytes, bytes,
                    packed(part, /*packX=*/true));
    });
  }
  finish(context, handle);
}

void gvrt_reduce_scatter(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Operation operation(context, "reduce_scatter");
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t element = readType(context, read), kind = read.integer(), outer = read.integer(), inner = read.integer();
  bool mirrored = read.integer();
  int64_t handle = read.integer(), size = group.ranks.size(), bytes = bytesOfElement(element);
  auto *x = static_cast<const char *>(buffer[0]);
  auto *y = static_cast<char *>(buffer[1]);
  if (size == 1) {
    std::memcpy(y, x, outer * inner * bytes);
    return finish(context, handle);
  }
  for (const PieceHalf &half : pieceHalves(outer, mirrored)) {
    Exchange exchange{context,
                      group,
                      element,
                      /*xStep=*/inner,
                      /*yStep=*/0,
                      kind,
                      x + half.first * inner * size * bytes,
                      y + half.first * inner * bytes,
                      half.reversed};
    forParts({{half.count, half.step * inner * size, half.step * inner}, {inner, 1, 1}}, partElements(group, element),
             exchange);
  }
  finish(context, handle);
}

void gvrt_all_to_all(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Operation operation(context, "all_to_all");
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t element = readType(context, read), rank = read.integer(), size = group.ranks.size();
  const int64_t *extents = read.list(rank);
  int64_t splitDim = read.integer(), splitOuter = read.integer(), concatDim = read.integer(),
          concatOuter = read.integer(), handle = read.integer();

  AllToAllPieces pieces;
  std::string problem = allToAllPieces(rank, extents, size, splitDim, splitOuter, concatDim, concatOuter, pieces);
  GVRT_CHECK(context, problem.empty(), problem);
  PieceLoops &loops = pieces.loops;
  mergeLoops(loops);
  Exchange exchange{context,
                    group,
                    element,
                    pieces.xStep,
                    pieces.yStep,
                    /*reduceKind=*/-1,
                    static_cast<const char *>(buffer[0]),
                    static_cast<char *>(buffer[1])};
  if (size == 1)
    copyStrided(buffer[0], buffer[1], bytesOfElement(element), loops);
  else
    forParts(loops, partElements(group, element), exchange);
  finish(context, handle);
}

void gvrt_permute(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Operation operation(context, "permute");
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t element = readType(context, read), count = read.integer(), size = read.integer();
  const int64_t *sources = read.list(size);
  int64_t handle = read.integer();
  Partners partners;
  std::string problem = permutePartners(sources, size, group.ranks.size(), group.position, partners);
  GVRT_CHECK(context, problem.empty(), problem);
  auto *x = static_cast<const char *>(buffer[0]);
  auto *y = static_cast<char *>(buffer[1]);
  int64_t bytes = count * bytesOfElement(element);
  if (partners.source == group.position)
    std::memcpy(y, x, bytes);
  else
    for (int64_t done = 0; done < bytes; done += kLongest) {
      int part = std::min(kLongest, bytes - done);
      GVRT_MPI(context, MPI_Sendrecv(x + done, part, MPI_BYTE, partners.target, /*sendtag=*/0, y + done, part, MPI_BYTE,
                                     partners.source, /*recvtag=*/0, group.communicator, MPI_STATUS_IGNORE));
    }
  finish(context, handle);
}

void gvrt_shard(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  const Group &group = groupOf(context, read.integer());
  int64_t bytes = read.integer(), outer = read.integer(), inner = read.integer(), size = group.ranks.size();
  bool mirrored = read.integer();
  int64_t count = read.integer(), piece = pieceOf(read.list(count), count, group.position);
  auto *x = static_cast<const char *>(buffer[0]);
  auto *y = static_cast<char *>(buffer[1]);
  for (const PieceHalf &half : pieceHalves(outer, mirrored))
    copyStrided(x + (half.first * size + half.place(piece, size)) * inner * bytes, y + half.first * inner * bytes,
                bytes, {{half.count, half.step * inner * size, half.step * inner}, {inner, 1, 1}});
}
