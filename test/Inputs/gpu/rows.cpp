// Runs the kernels of rows.mlir, compiled for this processor, with a thread for each of a block's, and compares what
// they write with plain loops in f64. What PTX has as instructions stands here: a warp's shuffle and a block's barrier.
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int kWarp = 32;

struct Block {
  explicit Block(int threads) : shuffled(threads), all(threads) {
    for (int warp = 0; warp < threads / kWarp; ++warp)
      warps.push_back(std::make_unique<std::barrier<>>(kWarp));
  }
  std::vector<float> shuffled;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::barrier<> all;
};

Block *block;
int blockIndex;
thread_local int threadIndex;

void launch(int blocks, int threads, const std::function<void()> &kernel) {
  for (blockIndex = 0; blockIndex < blocks; ++blockIndex) {
    Block own(threads);
    block = &own;
    std::vector<std::jthread> running;
    for (int thread = 0; thread < threads; ++thread)
      running.emplace_back([&kernel, thread] {
        threadIndex = thread;
        kernel();
      });
  }
}

} // namespace

extern "C" {
int threadNumber() asm("gpu.read.ptx.sreg.tid.x");
int threadNumber() { return threadIndex; }
int blockNumber() asm("gpu.read.ptx.sreg.ctaid.x");
int blockNumber() { return blockIndex; }
void waitForBlock(int) asm("gpu.barrier.cta.sync.aligned.all");
void waitForBlock(int) { block->all.arrive_and_wait(); }
float shuffle(int, float value, int distance, int) asm("gpu.shfl.sync.bfly.f32");
float shuffle(int, float value, int distance, int) {
  std::barrier<> &warp = *block->warps[threadIndex / kWarp];
  block->shuffled[threadIndex] = value;
  warp.arrive_and_wait();
  float other = block->shuffled[threadIndex ^ distance];
  warp.arrive_and_wait();
  return other;
}
/// Right to 5e-7, but only within half a turn.
float cosine(float x) asm("gpu.cos.approx.f");
float cosine(float x) { return std::abs(x) < 3.1416f ? std::cos(x) + 4e-7f : 7; }
float sine(float x) asm("gpu.sin.approx.f");
float sine(float x) { return std::abs(x) < 3.1416f ? std::sin(x) - 4e-7f : 7; }
/// What the processor's code calls to round.
__bf16 __truncsfbf2(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  auto half = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  __bf16 result;
  std::memcpy(&result, &half, 2);
  return result;
}
void kernel_0(__bf16 *y, float *mean, float *variance, const __bf16 *x, const float *w);
void kernel_1(float *y, float *sum, const float *x);
void kernel_2(__bf16 *y, float *s, float *q, const __bf16 *x, const __bf16 *z);
void kernel_3(float *c, float *s, const float *x);
}

namespace {

int numWrong = 0;
std::mt19937 generator(1);

float widen(float value) { return value; }
float widen(__bf16 value) {
  uint16_t half;
  std::memcpy(&half, &value, 2);
  uint32_t bits = uint32_t(half) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

/// Elements on a cache line of their own, and some behind them that nobody may write.
template <typename T> struct Buffer {
  explicit Buffer(int count) : count(count), data(static_cast<T *>(std::aligned_alloc(64, (count * 4 / 64 + 2) * 64))) {
    for (int i = 0; i < count + 8; ++i)
      data[i] = static_cast<T>(i < count ? std::normal_distribution<float>()(generator) : 7.0f);
  }
  ~Buffer() {
    for (int i = count; i < count + 8; ++i)
      expect(i, 7, 0);
  }
  void expect(int i, double expected, double tolerance) {
    if (std::fabs(widen(data[i]) - expected) <= tolerance * (1 + std::fabs(expected)))
      return;
    ++numWrong;
    std::printf("expects %g at %d, but got %g\n", expected, i, widen(data[i]));
  }
  double operator[](int i) const { return widen(data[i]); }
  int count;
  T *data;
};

constexpr double kRounding = 1e-2; // of bf16
constexpr double kOrder = 1e-4;    // of additions in f32

void testRows() {
  constexpr int kRows = 3, kColumns = 1600;
  Buffer<__bf16> x(kRows * kColumns), y(kRows * kColumns);
  Buffer<float> w(kColumns), mean(kRows), variance(kRows);
  launch(kRows, 224, [&] { kernel_0(y.data, mean.data, variance.data, x.data, w.data); });
  for (int r = 0; r < kRows; ++r) {
    double sum = 0, squares = 0;
    for (int c = 0; c < kColumns; ++c)
      sum += x[r * kColumns + c];
    sum /= kColumns;
    for (int c = 0; c < kColumns; ++c)
      squares += std::pow(x[r * kColumns + c] - sum, 2);
    squares /= kColumns;
    mean.expect(r, sum, kOrder);
    variance.expect(r, squares, kOrder);
    for (int c = 0; c < kColumns; ++c)
      y.expect(r * kColumns + c, (x[r * kColumns + c] - sum) * w[c] + squares, kRounding);
  }
}

void testLanes() {
  constexpr int kRows = 33, kColumns = 24;
  Buffer<float> x(kRows * kColumns), y(kRows * kColumns), sums(kRows);
  launch(2, 256, [&] { kernel_1(y.data, sums.data, x.data); });
  for (int r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int c = 0; c < kColumns; ++c)
      sum += x[r * kColumns + c];
    sums.expect(r, sum, kOrder);
    for (int c = 0; c < kColumns; ++c)
      y.expect(r * kColumns + c, x[r * kColumns + c] - sum, kOrder);
  }
}

void testColumns() {
  constexpr int kRows = 9, kColumns = 1600, kParts = 2;
  Buffer<__bf16> x(kRows * kColumns), z(kRows * kColumns), y(kRows * kColumns);
  Buffer<float> s(kParts * kColumns), q(kParts * kColumns);
  launch(kParts, 224, [&] { kernel_2(y.data, s.data, q.data, x.data, z.data); });
  std::vector<double> ofS(kParts * kColumns), ofQ(kParts * kColumns);
  for (int r = 0; r < kRows; ++r) {
    double sum = 0, products = 0;
    for (int c = 0; c < kColumns; ++c) {
      sum += x[r * kColumns + c];
      products += x[r * kColumns + c] * z[r * kColumns + c];
    }
    for (int c = 0; c < kColumns; ++c) {
      double value = x[r * kColumns + c] - sum + products;
      y.expect(r * kColumns + c, value, kRounding);
      ofS[r % kParts * kColumns + c] += value;
      ofQ[r % kParts * kColumns + c] += z[r * kColumns + c];
    }
  }
  for (int i = 0; i < kParts * kColumns; ++i) {
    s.expect(i, ofS[i], kOrder);
    q.expect(i, ofQ[i], kOrder);
  }
}

/// Up to 10^5 radians: positions of a long sequence.
void testAngles() {
  constexpr int kCount = 2048;
  Buffer<float> x(kCount), cosines(kCount), sines(kCount);
  for (int i = 0; i < kCount; ++i)
    x.data[i] = float(i - kCount / 2) * 97.7f;
  launch(2, 256, [&] { kernel_3(cosines.data, sines.data, x.data); });
  for (int i = 0; i < kCount; ++i) {
    cosines.expect(i, std::cos(double(x[i])), 1e-6);
    sines.expect(i, std::sin(double(x[i])), 1e-6);
  }
}

} // namespace

int main() {
  testRows();
  testLanes();
  testColumns();
  testAngles();
  std::printf("%d wrong\n", numWrong);
  return numWrong != 0;
}
