//===- CudaKernels.h - "generated" kernels for tests of the cuda device --------------------------===//
//
// What the compiler puts into gvrt_program::kernels, by hand: PTX, one element a thread, as many threads as elements.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_TEST_RUNTIME_CUDAKERNELS_H
#define GALVATRON_TEST_RUNTIME_CUDAKERNELS_H

namespace galvatron::test {

enum Kernel {
  kZero,  // y = 0
  kAdd,   // y += x
  kLoss,  // one thread: loss += w[0] + (float)ids[0]; buffers w, ids, loss
  kBreak, // writes to an address that is nobody's
};

inline constexpr char kKernels[] = R"(
.version 8.0
.target sm_80
.address_size 64
.visible .entry kernel_0(.param .u64 y) {
  .reg .u32 %r<5>; .reg .u64 %d<4>; .reg .f32 %f<2>;
  ld.param.u64 %d1, [y];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %d2, %r4, 4; add.u64 %d3, %d1, %d2;
  mov.f32 %f1, 0f00000000;
  st.global.f32 [%d3], %f1;
  ret;
}
.visible .entry kernel_1(.param .u64 x, .param .u64 y) {
  .reg .u32 %r<5>; .reg .u64 %d<6>; .reg .f32 %f<4>;
  ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %d3, %r4, 4; add.u64 %d4, %d1, %d3; add.u64 %d5, %d2, %d3;
  ld.global.f32 %f1, [%d4]; ld.global.f32 %f2, [%d5]; add.f32 %f3, %f1, %f2;
  st.global.f32 [%d5], %f3;
  ret;
}
.visible .entry kernel_2(.param .u64 w, .param .u64 ids, .param .u64 loss) {
  .reg .u64 %d<5>; .reg .f32 %f<6>;
  ld.param.u64 %d1, [w]; ld.param.u64 %d2, [ids]; ld.param.u64 %d3, [loss];
  ld.global.f32 %f1, [%d1]; ld.global.s64 %d4, [%d2]; cvt.rn.f32.s64 %f2, %d4; ld.global.f32 %f3, [%d3];
  add.f32 %f4, %f1, %f2; add.f32 %f5, %f4, %f3;
  st.global.f32 [%d3], %f5;
  ret;
}
.visible .entry kernel_3(.param .u64 y) {
  .reg .u64 %d<2>; .reg .f32 %f<2>;
  mov.u64 %d1, 64; mov.f32 %f1, 0f3f800000;
  st.global.f32 [%d1], %f1;
  ret;
}
)";

} // namespace galvatron::test

#endif
