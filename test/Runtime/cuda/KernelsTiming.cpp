//===- KernelsTiming.cpp - how fast the CUDA device's functions are at the shapes of 7B models -----------===//
//
//   KernelsTiming <libgalvatron_cuda.so>
//
// Each line is the mean over calls that run back to back for about 20 ms. GB/s counts every byte read or written once;
// TFLOP/s counts 2·M·N·K of a product, and of attention 4·B·N·Sq·Sk·D forward, 2.5 times as many backward, halved where
// causal. Buffers hold random bits of small numbers: products of zeros draw less power and run faster.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "test/Runtime/cuda/Harness.h"

#include <chrono>
#include <unistd.h>

using namespace galvatron;
using namespace galvatron::test;

namespace {

class Timing {
public:
  explicit Timing(Gpu &gpu) : gpu(gpu) {}

  /// Random numbers of a type; their first mebi repeats.
  void *numbers(int64_t count, int type) {
    constexpr int64_t kUnique = 1 << 20;
    Buffer buffer;
    buffer.type = type;
    buffer.floats = Random(1).floats(std::min(count, kUnique), 0.5f);
    return fill(buffer.pack(), count * bytesOf(type));
  }
  void *integers(int64_t count, int64_t below) {
    Buffer buffer;
    buffer.type = GVRT_I64;
    buffer.integers = Random(2).integers(count, below);
    return fill(buffer.pack(), count * 8);
  }
  void *room(int64_t bytes) { return gpu.take(bytes); }

  /// Seconds of a call.
  double seconds(const char *function, const std::vector<void *> &buffers, const Words &words) {
    gvrt_function call = gpu.function(function);
    auto run = [&](int count) {
      gpu.synchronize();
      auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < count; ++i)
        call(&gpu.context, const_cast<void **>(buffers.data()), words.data());
      gpu.synchronize();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / count;
    };
    gpu.tune(true);
    run(1);
    gpu.tune(false);
    double first = run(2);
    return run((int)std::clamp(0.02 / first, 3.0, 200.0));
  }

  void bandwidth(const char *function, const char *label, double bytes, const std::vector<void *> &buffers,
                 const Words &words) {
    report(function, label, [&] {
      double time = seconds(function, buffers, words);
      std::printf("%9.1f us %9.0f GB/s", time * 1e6, bytes / time * 1e-9);
    });
  }
  void arithmetic(const char *function, const char *label, double operations, const std::vector<void *> &buffers,
                  const Words &words) {
    report(function, label, [&] {
      double time = seconds(function, buffers, words);
      std::printf("%9.1f us %9.1f TFLOP/s", time * 1e6, operations / time * 1e-12);
    });
  }

  Gpu &gpu;

private:
  void *fill(const std::vector<char> &bytes, int64_t size) {
    char *memory = static_cast<char *>(gpu.take(size));
    for (int64_t at = 0; at < size; at += (int64_t)bytes.size())
      gpu.hooks->copyToDevice(&gpu.context, memory + at, bytes.data(), std::min<int64_t>(bytes.size(), size - at));
    return memory;
  }
  template <typename F> void report(const char *function, const char *label, F &&f) {
    std::printf("%-24s %-44s ", function, label);
    try {
      f();
    } catch (const std::exception &error) {
      std::printf("FAIL %s", error.what());
    }
    std::printf("\n");
    std::fflush(stdout);
  }
};

/// y = x·wᵀ, its two gradients: dx = dy·w, dw += dyᵀ·x (in f32).
void timeLinear(Timing &t, const char *label, int64_t rows, int64_t in, int64_t out) {
  t.gpu.reset();
  void *x = t.numbers(rows * in, GVRT_BF16), *w = t.numbers(in * out, GVRT_BF16), *y = t.numbers(rows * out, GVRT_BF16),
       *dw = t.numbers(in * out, GVRT_F32), *bias = t.numbers(out, GVRT_BF16), *z = t.numbers(rows * out, GVRT_BF16);
  double operations = 2.0 * rows * in * out;
  std::string name = label;
  t.arithmetic("matmul", (name + " forward").c_str(), operations, {x, w, y},
               {GVRT_BF16, GVRT_BF16, rows, out, in, in, 1, 1, in, out, 1, 0, 0});
  Words added = {GVRT_BF16, GVRT_BF16, rows, out, in, in, 1, 1, in, out};
  t.arithmetic("matmul_add", (name + " and bias").c_str(), operations, {x, w, bias, nullptr, y}, added);
  t.arithmetic("matmul_add", (name + " and addend").c_str(), operations, {x, w, nullptr, z, y}, added);
  t.arithmetic("matmul", (name + " dx").c_str(), operations, {y, w, x},
               {GVRT_BF16, GVRT_BF16, rows, in, out, out, 1, in, 1, in, 1, 0, 0});
  t.arithmetic("matmul", (name + " dw").c_str(), operations, {y, x, dw},
               {GVRT_BF16, GVRT_F32, out, in, rows, 1, out, in, 1, in, 1, 1, 0});
}

void timeAttention(Timing &t, const char *label, int type, int64_t b, int64_t n, int64_t k, int64_t s, int64_t d,
                   int64_t scratch) {
  t.gpu.reset();
  int64_t queries = b * n * s * d, keys = b * k * s * d;
  void *q = t.numbers(queries, type), *key = t.numbers(keys, type), *v = t.numbers(keys, type),
       *y = t.numbers(queries, type), *dy = t.numbers(queries, type), *lse = t.room(b * n * s * 4),
       *dq = t.room(queries * 4), *dk = t.room(keys * 4), *dv = t.room(keys * 4), *workspace = t.room(scratch);
  Words words = {type, scratch, b, n, k, s, s, d, d, bits(1 / std::sqrt((double)d)), 1, 0, bits(0), bits(0), 0};
  auto strides = [&](int64_t heads) { append(words, {s * heads * d, d, heads * d}); };
  for (int64_t heads : {n, k, k, n})
    strides(heads);
  append(words, {0, 0, 0, 0});
  Words forward = words;
  for (int64_t heads : {n, n, k, k})
    strides(heads);
  append(forward, whole({b, n, s, s}));
  append(words, whole({b, n, s, s}));
  double operations = 2.0 * b * n * s * s * d;
  t.arithmetic("attention", label, operations, {q, key, v, nullptr, y, lse, workspace}, forward);
  t.arithmetic("attention_backward", label, 2.5 * operations, {dy, q, key, v, y, lse, nullptr, dq, dk, dv, workspace},
               words);
  auto bytes =
      reinterpret_cast<int64_t (*)(gvrt_context *, const int64_t *, int)>(t.gpu.symbol("gvrt_attention_workspace"));
  if (type == GVRT_BF16)
    try {
      std::printf("%-24s %-44s forward %ld, backward %ld bytes\n", "  workspace", label,
                  (long)bytes(&t.gpu.context, forward.data(), 0), (long)bytes(&t.gpu.context, words.data(), 1));
    } catch (const std::exception &error) {
      std::printf("FAIL %s\n", error.what());
    }
}

void timeRows(Timing &t) {
  constexpr int64_t kRows = 16384, kColumns = 4096, kElements = kRows * kColumns;
  t.gpu.reset();
  void *x = t.numbers(kElements, GVRT_BF16), *y = t.numbers(kElements, GVRT_BF16),
       *dx = t.numbers(kElements, GVRT_BF16), *weight = t.numbers(kColumns, GVRT_F32),
       *mean = t.numbers(kRows, GVRT_F32), *rstd = t.numbers(kRows, GVRT_F32), *wide = t.numbers(kElements, GVRT_F32);
  t.bandwidth("copy", "16384 x 4096 contiguous", 4.0 * kElements, {x, y}, {2, 1, kElements, 1, 1});
  t.bandwidth("copy", "4 x 4096 x 32 x 128 heads to front", 4.0 * kElements, {x, y},
              {2, 4, 4, 4096, 32, 128, 4096 * 4096, 4096, 128, 1, 4096 * 4096, 128, 4096 * 128, 1});
  t.bandwidth("copy", "16384 x 4096 transposed", 4.0 * kElements, {x, y},
              {2, 2, kRows, kColumns, kColumns, 1, 1, kRows});
  t.bandwidth("norm", "16384 x 4096 rms", 4.0 * kElements, {x, weight, nullptr, y, mean, rstd},
              {GVRT_BF16, kRows, kColumns, 0, bits(1e-5), bits(0)});
  t.bandwidth("norm_backward", "16384 x 4096 rms", 6.0 * kElements, {y, x, weight, mean, rstd, dx},
              {GVRT_BF16, kRows, kColumns, 0, bits(0)});
  t.bandwidth("norm_weight_backward", "16384 x 4096", 4.0 * kElements, {y, x, mean, rstd, weight},
              {GVRT_BF16, kRows, kColumns, 1});
  t.bandwidth("reduce", "16384 x 4096 columns summed", 2.0 * kElements, {x, weight},
              {GVRT_BF16, GVRT_F32, 0, 0, 2, kRows, kColumns, kColumns, 1, 0, 1});
  t.bandwidth("softmax", "16384 x 4096", 4.0 * kElements, {x, y}, {GVRT_BF16, kRows, kColumns});
  t.bandwidth("convert", "16384 x 4096 f32 -> bf16", 6.0 * kElements, {wide, y}, {GVRT_F32, GVRT_BF16, kElements});
  t.bandwidth("accumulate", "16384 x 4096 bf16 -> f32", 10.0 * kElements, {x, wide}, {GVRT_BF16, GVRT_F32, kElements});
  Words dropout = {GVRT_BF16, bits(0.1), 3, 2, kRows, kColumns};
  append(dropout, whole({kRows, kColumns}));
  t.bandwidth("dropout", "16384 x 4096", 4.0 * kElements, {x, y}, dropout);
  Words rope = {GVRT_BF16, 4, 4096, 32, 128, 4096 * 4096, 4096, 128, 4096 * 4096, 4096, 128, 1, 0, 0, bits(1), 64};
  for (int i = 0; i < 64; ++i)
    rope.push_back(bits(std::pow(10000.0, -i / 64.0)));
  append(rope, whole({4096}));
  t.bandwidth("rope", "4 x 4096 x 32 x 128", 4.0 * kElements, {x, y}, rope);
}

/// What GPT-2 1558M sums over rows: biases, and norms' weights.
void timeColumns(Timing &t) {
  constexpr int64_t kRows = 16384;
  for (int64_t columns : {1600, 4800, 6400, 11008}) {
    t.gpu.reset();
    void *x = t.numbers(kRows * columns, GVRT_BF16), *y = t.numbers(kRows * columns, GVRT_BF16),
         *sum = t.numbers(columns, GVRT_F32), *mean = t.numbers(kRows, GVRT_F32), *rstd = t.numbers(kRows, GVRT_F32);
    std::string shape = "16384 x " + std::to_string(columns);
    t.bandwidth("reduce", (shape + " columns summed").c_str(), 2.0 * kRows * columns, {x, sum},
                {GVRT_BF16, GVRT_F32, 0, 1, 2, kRows, columns, columns, 1, 0, 1});
    t.bandwidth("norm_weight_backward", shape.c_str(), 4.0 * kRows * columns, {y, x, mean, rstd, sum},
                {GVRT_BF16, kRows, columns, 1});
  }
}

void timeVocabulary(Timing &t, const char *label, int64_t vocabulary) {
  constexpr int64_t kRows = 16384, kColumns = 4096;
  std::string name = label;
  t.gpu.reset();
  double elements = (double)kRows * vocabulary;
  void *logits = t.numbers(kRows * vocabulary, GVRT_BF16), *max = t.numbers(kRows, GVRT_F32),
       *sum = t.numbers(kRows, GVRT_F32), *labels = t.integers(kRows, vocabulary), *dy = t.numbers(kRows, GVRT_F32);
  Words positions = whole({vocabulary});
  t.bandwidth("reduce", (name + " row maxima").c_str(), 2 * elements, {logits, max},
              {GVRT_BF16, GVRT_F32, 1, 0, 2, kRows, vocabulary, vocabulary, 1, 1, 0});
  t.bandwidth("sum_exp", name.c_str(), 2 * elements, {logits, max, sum}, {GVRT_BF16, kRows, vocabulary});
  Words words = {GVRT_BF16, kRows, vocabulary, -100};
  append(words, positions);
  t.bandwidth("target_logit", name.c_str(), 12.0 * kRows, {logits, labels, sum}, words);
  t.bandwidth("cross_entropy_backward", (name + " in place").c_str(), 4 * elements,
              {dy, logits, sum, max, labels, logits}, words);
  t.gpu.reset();
  void *ids = t.integers(kRows, vocabulary), *table = t.numbers(vocabulary * kColumns, GVRT_BF16),
       *rows = t.numbers(kRows * kColumns, GVRT_BF16), *dtable = t.numbers(vocabulary * kColumns, GVRT_F32);
  Words embedding = {GVRT_BF16, vocabulary, kColumns, kRows};
  Words backward = embedding;
  backward.push_back(1);
  append(embedding, positions);
  append(backward, positions);
  t.bandwidth("embedding", name.c_str(), 4.0 * kRows * kColumns, {table, ids, rows}, embedding);
  t.bandwidth("embedding_backward", (name + ", random ids").c_str(), 10.0 * kRows * kColumns, {rows, ids, dtable},
              backward);
  void *few = t.integers(kRows, 16);
  t.bandwidth("embedding_backward", (name + ", 16 different ids").c_str(), 2.0 * kRows * kColumns, {rows, few, dtable},
              backward);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::printf("usage: KernelsTiming <libgalvatron_cuda.so>\n");
    return 2;
  }
  MPI_Init(&argc, &argv);
  Gpu gpu(argv[1], (int64_t)24 << 30);
  Timing t(gpu);
  constexpr int64_t kScratch = (int64_t)6 << 30;
  timeAttention(t, "Llama-2-7B B4 N32 S4096 D128", GVRT_BF16, 4, 32, 32, 4096, 128, kScratch);
  timeAttention(t, "Llama-3-8B B2 N32 K8 S8192 D128", GVRT_BF16, 2, 32, 8, 8192, 128, kScratch);
  timeAttention(t, "GPT-2 B16 N25 S1024 D64", GVRT_BF16, 16, 25, 25, 1024, 64, kScratch);
  setenv("GALVATRON_DETERMINISTIC", "1", 1);
  timeAttention(t, "deterministic, B4 N32 S4096 D128", GVRT_BF16, 4, 32, 32, 4096, 128, kScratch);
  timeAttention(t, "deterministic, B2 N32 K8 S8192 D128", GVRT_BF16, 2, 32, 8, 8192, 128, kScratch);
  timeAttention(t, "deterministic, B16 N25 S1024 D64", GVRT_BF16, 16, 25, 25, 1024, 64, kScratch);
  unsetenv("GALVATRON_DETERMINISTIC");
  timeAttention(t, "own kernels, f32, B1 N32 S4096 D128", GVRT_F32, 1, 32, 32, 4096, 128, 0);
  timeRows(t);
  timeColumns(t);
  timeVocabulary(t, "16384 x 32000", 32000);
  timeVocabulary(t, "16384 x 128256", 128256);
  timeLinear(t, "q,k,v 4096 -> 12288", 16384, 4096, 12288);
  timeLinear(t, "o 4096 -> 4096", 16384, 4096, 4096);
  timeLinear(t, "gate,up 4096 -> 22016", 16384, 4096, 22016);
  timeLinear(t, "down 11008 -> 4096", 16384, 11008, 4096);
  timeLinear(t, "head 4096 -> 32000", 16384, 4096, 32000);
  timeLinear(t, "GPT-2 q,k,v 1600 -> 4800", 16384, 1600, 4800);
  timeLinear(t, "GPT-2 o 1600 -> 1600", 16384, 1600, 1600);
  timeLinear(t, "GPT-2 up 1600 -> 6400", 16384, 1600, 6400);
  timeLinear(t, "GPT-2 down 6400 -> 1600", 16384, 6400, 1600);
  timeLinear(t, "GPT-2 head 1600 -> 50257", 16384, 1600, 50257);
  std::fflush(stdout);
  _exit(0);
}
