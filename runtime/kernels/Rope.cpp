//===- Rope.cpp - rotary position embedding -----------------------------------------===//
//
// Cosines and sines of one position serve every batch row and head, so the loop over positions is outermost. The angle
// is rounded to f32 before its cosine is taken, as the frameworks do that models come from.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Loops.h"

#include <cmath>

using namespace galvatron;

void gvrt_rope(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  const int64_t *extent = read.list(4), *xStride = read.list(3), *yStride = read.list(3);
  int64_t seqDim = read.integer(), rowDim = read.integer(), style = read.integer(), inverse = read.integer();
  double scaling = read.real();
  int64_t count = read.integer();
  std::vector<float> frequency(count), cosine(count), sine(count);
  for (float &f : frequency)
    f = (float)read.real();
  PositionMap positions = read.positions(*context, 1);

  auto *x = static_cast<const float *>(buffer[0]);
  auto *rowPositions = static_cast<const int64_t *>(buffer[1]);
  auto *y = static_cast<float *>(buffer[2]);
  // Rows have angles of their own where their positions are data; else all share them.
  int64_t d0 = rowPositions ? rowDim : seqDim == 0 ? 1 : 0, d1 = 3 - seqDim - d0;
  for (int64_t s = 0; s < extent[seqDim]; ++s)
    for (int64_t i = 0; i < extent[d0]; ++i) {
      if (rowPositions || i == 0) {
        float position = (float)(rowPositions ? rowPositions[i * extent[seqDim] + s] : positions.toGlobal(0, s));
        for (int64_t f = 0; f < count; ++f) {
          double angle = position * frequency[f];
          cosine[f] = (float)(std::cos(angle) * scaling);
          sine[f] = (float)((inverse ? -std::sin(angle) : std::sin(angle)) * scaling);
        }
      }
      for (int64_t j = 0; j < extent[d1]; ++j)
        loops().rotate(x + s * xStride[seqDim] + i * xStride[d0] + j * xStride[d1],
                       y + s * yStride[seqDim] + i * yStride[d0] + j * yStride[d1], cosine.data(), sine.data(), count,
                       extent[3], style);
    }
}
