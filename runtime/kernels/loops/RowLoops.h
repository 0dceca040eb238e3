//===- RowLoops.h - the loops of RowLoops.cpp, for the table in BlockLoops.cpp; meanings in Loops.h ---===//
#ifndef GALVATRON_RUNTIME_KERNELS_LOOPS_ROWLOOPS_H
#define GALVATRON_RUNTIME_KERNELS_LOOPS_ROWLOOPS_H

#include "runtime/kernels/Loops.h"

namespace galvatron::GALVATRON_ISA {

float sum(const float *x, int64_t count);
float max(const float *x, int64_t count);
double squareSum(const float *x, int64_t count);
float dot(const float *x, const float *y, int64_t count);
void addRows(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns);
void maxRows(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns);
void add(const float *x, float *y, int64_t count);
void scale(float *y, float factor, int64_t count);
void multiply(const float *x, const float *w, float *y, int64_t count);
void norm(const float *x, const float *weight, const float *bias, float *y, float *mean, float *rstd, int64_t rows,
          int64_t columns, int kind, double epsilon, float offset);
void normBackward(const float *dy, const float *x, const float *weight, const float *mean, const float *rstd, float *dx,
                  int64_t rows, int64_t columns, int kind, float offset);
void normWeightBackward(const float *dy, const float *x, const float *mean, const float *rstd, float *dw, int64_t rows,
                        int64_t columns);
void softmax(const float *x, float *y, int64_t columns);
void softmaxBackward(const float *dy, const float *y, float *dx, int64_t columns);
float sumExp(const float *x, float max, int64_t columns);
void scaledExp(const float *x, float max, float factor, float *y, int64_t columns);

} // namespace galvatron::GALVATRON_ISA

#endif
