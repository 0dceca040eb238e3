//===- KernelsTest.cpp - every function of the CUDA device against the CPU's -----------------------------===//
//
//   KernelsTest <libgalvatron_cpu.so> <libgalvatron_cuda.so>
//
// Shapes are small and odd beside round ones: every kernel's wide path and its scalar path. Ends with 77 where there is
// no GPU.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "test/Runtime/cuda/Comparison.h"

#include <unistd.h>

using namespace galvatron;
using namespace galvatron::test;

namespace {

constexpr int kTypes[] = {GVRT_F32, GVRT_BF16, GVRT_F16};

const char *nameOf(int type) { return type == GVRT_BF16 ? "bf16" : type == GVRT_F16 ? "f16" : "f32"; }

std::string text(const char *format, auto... values) {
  char line[160];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

void testMatmul(Comparison &c) {
  struct Shape {
    const char *label;
    int64_t m, n, k, am, ak, bk, bn, cm, cn, accumulate;
    Words batch; // (extent, a, b, c)…
    int64_t sizeA, sizeB, sizeC;
  };
  const Shape shapes[] = {
      {"a·b", 64, 48, 32, 32, 1, 48, 1, 48, 1, 0, {}, 64 * 32, 32 * 48, 64 * 48},
      {"odd a·b", 65, 47, 33, 33, 1, 47, 1, 47, 1, 0, {}, 65 * 33, 33 * 47, 65 * 47},
      {"a·bt", 128, 96, 64, 64, 1, 1, 64, 96, 1, 0, {}, 128 * 64, 64 * 96, 128 * 96},
      {"at·b accumulated", 128, 96, 512, 1, 128, 96, 1, 96, 1, 1, {}, 128 * 512, 512 * 96, 128 * 96},
      {"c transposed", 64, 48, 32, 32, 1, 48, 1, 1, 64, 0, {}, 64 * 32, 32 * 48, 64 * 48},
      {"batch", 16, 24, 32, 32, 1, 24, 1, 24, 1, 0, {5, 512, 768, 384}, 5 * 512, 5 * 768, 5 * 384},
      {"batch that folds", 16, 24, 32, 32, 1, 24, 1, 24, 1, 0, {5, 512, 0, 384}, 5 * 512, 768, 5 * 384},
      {"batch that is a sum", 16, 24, 32, 160, 1, 24, 1, 24, 1, 0, {5, 32, 1000, 0}, 16 * 160, 5000, 384},
      {"two batches and a sum",
       16,
       24,
       32,
       32,
       1,
       24,
       1,
       24,
       1,
       1,
       {3, 512, 0, 384, 4, 1536, 768, 2000, 2, 6144, 3072, 0},
       2 * 6144,
       2 * 3072,
       4 * 2000},
      {"one row", 1, 130, 77, 77, 1, 130, 1, 130, 1, 0, {}, 77, 77 * 130, 130},
      {"one column", 130, 1, 77, 77, 1, 1, 1, 1, 1, 0, {}, 130 * 77, 77, 130},
      {"k 1", 30, 40, 1, 1, 1, 40, 1, 40, 1, 0, {}, 30, 40, 1200},
      {"no stride is 1", 16, 24, 8, 24, 3, 48, 2, 96, 4, 0, {}, 16 * 24, 8 * 48, 16 * 96},
      {"large", 512, 768, 640, 640, 1, 1, 640, 768, 1, 0, {}, 512 * 640, 640 * 768, 512 * 768},
  };
  for (auto [type, cType] : {std::pair(GVRT_F32, GVRT_F32),
                             {GVRT_BF16, GVRT_BF16},
                             {GVRT_BF16, GVRT_F32},
                             {GVRT_F16, GVRT_F16},
                             {GVRT_F16, GVRT_F32}})
    for (const Shape &s : shapes) {
      Random random(1);
      c.run({"matmul",
             text("%s -> %s, %s", nameOf(type), nameOf(cType), s.label),
             {c.in(random.floats(s.sizeA), type), c.in(random.floats(s.sizeB), type),
              c.out(random.floats(s.sizeC), cType)},
             [=](auto &t, auto &) {
               Words words = {t(type),
                              t(cType),
                              s.m,
                              s.n,
                              s.k,
                              s.am,
                              s.ak,
                              s.bk,
                              s.bn,
                              s.cm,
                              s.cn,
                              s.accumulate,
                              (int64_t)s.batch.size() / 4};
               append(words, s.batch);
               return words;
             }});
    }
}

/// Rows of c and of the addend are 8 elements further apart than they are long.
void testMatmulAdd(Comparison &c) {
  for (auto [type, cType] : {std::pair(GVRT_F32, GVRT_F32), {GVRT_BF16, GVRT_BF16}, {GVRT_F16, GVRT_F16}})
    for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{64, 48, 32}, {65, 47, 33}, {512, 768, 640}})
      for (int added : {1, 2, 3}) {
        Random random(3);
        int64_t row = n + 8, words[] = {m, n, k, k, 1, n, 1, row};
        c.run({"matmul_add",
               text("%s, %d x %d x %d%s%s", nameOf(type), (int)m, (int)n, (int)k, added & 1 ? ", bias" : "",
                    added & 2 ? ", addend" : ""),
               {c.in(random.floats(m * k), type), c.in(random.floats(k * n), type),
                added & 1 ? c.in(random.floats(n), cType) : c.none(),
                added & 2 ? c.in(random.floats(m * row), cType) : c.none(), c.out(m * row, cType)},
               [=, list = Words(std::begin(words), std::end(words))](auto &t, auto &) {
                 Words all = {t(type), t(cType)};
                 append(all, list);
                 return all;
               }});
      }
}

struct Attention {
  const char *label;
  int64_t batch, heads, keyHeads, queries, keys, size, valueSize, causal, window;
  double softcap, dropout;
  bool bias;
  Words positions;      // empty: whole
  int64_t document = 0; // length of documents, one more in each row of the batch; 0: none
};

/// Both directions; the backward pass gets the CPU's y and lse by way of rounding only.
void testAttention(Comparison &c, int type, const Attention &s) {
  Random random(2);
  int64_t queries = s.batch * s.heads * s.queries, keys = s.batch * s.keyHeads * s.keys;
  // [batch, position, head, size] in memory, as after a projection.
  auto strides = [](int64_t heads, int64_t positions, int64_t size) {
    return Words{positions * heads * size, size, heads * size};
  };
  Words positions = s.positions.empty() ? whole({s.batch, s.heads, s.queries, s.keys}) : s.positions;
  Words biasStrides = s.bias ? Words{0, s.queries * s.keys, s.keys, 1} : Words{0, 0, 0, 0};
  constexpr int64_t kScratch = 64 << 20;
  auto head = [=](auto &t) {
    Words words;
    if (s.document)
      words.push_back(0); // not the run's own
    append(words, {t(type), kScratch, s.batch, s.heads, s.keyHeads, s.queries, s.keys, s.size, s.valueSize,
                   bits(1 / std::sqrt((double)s.size)), s.causal, s.window, bits(s.softcap), bits(s.dropout), 5});
    append(words, strides(s.heads, s.queries, s.size));
    append(words, strides(s.keyHeads, s.keys, s.size));
    append(words, strides(s.keyHeads, s.keys, s.valueSize));
    append(words, strides(s.heads, s.queries, s.valueSize));
    append(words, biasStrides);
    return words;
  };
  Buffer q = c.in(random.floats(queries * s.size), type), k = c.in(random.floats(keys * s.size), type),
         v = c.in(random.floats(keys * s.valueSize), type), dy = c.in(random.floats(queries * s.valueSize), type),
         bias = s.bias ? c.in(random.floats(s.heads * s.queries * s.keys), type) : c.none();
  std::string label = text("%s, %s", nameOf(type), s.label);
  std::vector<Buffer> documents;
  auto addDocuments = [&](int64_t positions) {
    std::vector<int64_t> of;
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t i = 0; i < positions; ++i)
        of.push_back(i / (s.document + b));
    documents.push_back(c.in(of));
  };
  if (s.document) {
    addDocuments(s.queries);
    addDocuments(s.keys);
  }
  auto withDocuments = [&](std::vector<Buffer> buffers, size_t at) {
    buffers.insert(buffers.begin() + at, documents.begin(), documents.end());
    return buffers;
  };
  Call forward{
      s.document ? "document_attention" : "attention", label,
      withDocuments({q, k, v, bias, c.out(queries * s.valueSize, type), c.out(queries), c.scratch(kScratch)}, 3),
      [=](auto &t, auto &) {
        Words words = head(t);
        append(words, positions);
        return words;
      }};
  forward.looseFloats = isHalf(type);
  c.run(forward);
  std::vector<Buffer> results = c.onCpu(forward);
  size_t first = 4 + documents.size();
  Buffer y = c.in(results[first].floats, type), lse = c.in(results[first + 1].floats);
  Call backward{s.document ? "document_attention_backward" : "attention_backward", label,
                withDocuments({dy, q, k, v, y, lse, bias, c.out(queries * s.size, type), c.out(keys * s.size, type),
                               c.out(keys * s.valueSize, type), c.scratch(kScratch)},
                              6),
                [=](auto &t, auto &) {
                  Words words = head(t);
                  append(words, strides(s.heads, s.queries, s.valueSize));
                  append(words, strides(s.heads, s.queries, s.size));
                  append(words, strides(s.keyHeads, s.keys, s.size));
                  append(words, strides(s.keyHeads, s.keys, s.valueSize));
                  append(words, positions);
                  return words;
                }};
  backward.repeats = type == GVRT_F32 || s.bias || s.window || s.softcap > 0 || s.dropout > 0;
  c.run(backward);
}

void testAttentions(Comparison &c) {
  // Queries and keys of the second of two devices, in halves of 35 and 70.
  Words cut = {1, 2, -1, 1, 4, -1, 2, 2, 0, 35, -1, 2, 2, 0, 70, -1};
  const Attention both[] = {
      {"full", 2, 4, 4, 70, 70, 40, 40, 0, 0, 0, 0, false, {}},
      {"causal, grouped", 2, 4, 2, 70, 70, 64, 64, 1, 0, 0, 0, false, {}},
      {"causal, fewer queries", 1, 4, 2, 33, 100, 64, 64, 1, 0, 0, 0, false, {}},
      {"causal, more queries than keys", 1, 2, 2, 100, 33, 64, 64, 1, 0, 0, 0, false, {}},
      {"window 17", 1, 2, 1, 90, 90, 64, 64, 1, 17, 0, 0, false, {}},
      {"softcap", 1, 2, 1, 65, 65, 64, 64, 1, 0, 2.0, 0, false, {}},
      {"bias", 2, 2, 2, 65, 67, 72, 72, 0, 0, 0, 0, true, {}},
      {"dropout", 2, 4, 2, 40, 50, 64, 64, 1, 0, 0, 0.3, false, {}},
      {"dropout, cut", 2, 4, 2, 35, 70, 64, 64, 1, 0, 0, 0.3, false, cut},
      {"causal, cut", 2, 4, 2, 35, 70, 64, 64, 1, 0, 0, 0, false, cut},
      {"size 256, values 64", 1, 2, 1, 40, 40, 256, 64, 1, 0, 0, 0, false, {}},
      {"size 20, values 36", 1, 2, 1, 40, 40, 20, 36, 0, 0, 0, 0, false, {}},
      {"causal, 256 positions", 2, 4, 2, 256, 256, 128, 128, 1, 0, 0, 0, false, {}},
      {"full, 200 positions", 2, 4, 4, 200, 200, 64, 64, 0, 0, 0, 0, false, {}},
      {"causal, 200 positions, size 256", 1, 4, 2, 200, 200, 256, 256, 1, 0, 0, 0, false, {}},
      {"documents of 37", 3, 4, 2, 300, 300, 64, 64, 1, 0, 0, 0, false, {}, 37},
      {"documents of 100, size 128", 2, 4, 4, 512, 512, 128, 128, 1, 0, 0, 0, false, {}, 100},
      {"documents of 5, too many", 2, 4, 2, 300, 300, 64, 64, 1, 0, 0, 0, false, {}, 5},
      {"one document", 2, 4, 2, 256, 256, 64, 64, 1, 0, 0, 0, false, {}, 1000},
      {"documents of 60, not causal", 2, 4, 2, 256, 256, 64, 64, 0, 0, 0, 0, false, {}, 60},
      {"documents of 30, window 17", 2, 2, 1, 90, 90, 64, 64, 1, 17, 0, 0, false, {}, 30},
      {"documents of 25, cut", 2, 4, 2, 35, 70, 64, 64, 1, 0, 0, 0, false, cut, 25},
      {"documents of 20, bias, dropout", 1, 2, 2, 65, 65, 64, 64, 1, 0, 0, 0.3, true, {}, 20},
  };
  for (int type : kTypes)
    for (const Attention &s : both)
      testAttention(c, type, s);
}

void testRows(Comparison &c) {
  for (int type : kTypes)
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>{5, 37}, {9, 64}, {70, 1000}, {3, 4096}, {2, 9001}}) {
      Random random(3);
      std::string shape = text("%s, %d x %d", nameOf(type), (int)rows, (int)columns);
      Buffer x = c.in(random.floats(rows * columns), type), dy = c.in(random.floats(rows * columns), type);
      Buffer weight = c.in(random.floats(columns)), mean = c.in(random.floats(rows)), rstd = c.in(random.floats(rows));
      int64_t r = rows, n = columns;
      for (int64_t kind : {0, 1}) {
        c.run({"norm",
               shape + (kind ? ", layer" : ", rms"),
               {x, weight, kind ? weight : c.none(), c.out(r * n, type), c.out(r), c.out(r)},
               [=](auto &t, auto &) { return Words{t(type), r, n, kind, bits(1e-5), bits(kind ? 0 : 1)}; }});
        c.run({"norm_backward",
               shape + (kind ? ", layer" : ", rms"),
               {dy, x, kind ? weight : c.none(), mean, rstd, c.out(r * n, type)},
               [=](auto &t, auto &) { return Words{t(type), r, n, kind, bits(0)}; }});
      }
      for (int64_t accumulate : {0, 1})
        c.run({"norm_weight_backward", shape, {dy, x, mean, rstd, c.out(n)}, [=](auto &t, auto &) {
                 return Words{t(type), r, n, accumulate};
               }});
      c.run({"softmax", shape, {x, c.out(r * n, type)}, [=](auto &t, auto &) { return Words{t(type), r, n}; }});
      c.run({"softmax_backward", shape, {dy, x, c.out(r * n, type)}, [=](auto &t, auto &) {
               return Words{t(type), r, n};
             }});
    }
  // Sums over more rows: of a matrix too narrow for clusters of blocks, and of others.
  for (int type : kTypes)
    for (auto [r, n] : {std::pair<int64_t, int64_t>{3000, 520}, {2100, 1600}, {600, 2049}}) {
      Random random(4);
      int64_t rows = r, columns = n;
      c.run({"norm_weight_backward",
             text("%s, %d x %d", nameOf(type), (int)r, (int)n),
             {c.in(random.floats(r * n), type), c.in(random.floats(r * n), type), c.in(random.floats(r)),
              c.in(random.floats(r)), c.out(n)},
             [=](auto &t, auto &) { return Words{t(type), rows, columns, 1}; }});
    }
}

void testRope(Comparison &c) {
  Words cut = {2, 2, 0, 10, -1};
  for (int type : kTypes)
    for (int64_t style : {0, 1})
      for (auto [size, count, inverse] :
           {std::tuple<int64_t, int64_t, int64_t>{64, 32, 0}, {64, 16, 1}, {30, 15, 0}, {30, 11, 1}, {128, 64, 1}})
        for (int64_t dim : {1, 2}) {
          // [3, 10, 4, size] or [3, 4, 10, size], read from a buffer with other columns behind.
          Words extents = dim == 1 ? Words{3, 10, 4, size} : Words{3, 4, 10, size};
          Words from = rowMajor({extents[0], extents[1], extents[2], size + 8}), to = rowMajor(extents);
          Random random(5);
          int64_t n = size, f = count, back = inverse;
          // Positions from 0 in each document, where they are data.
          int64_t rowDim = dim == 0 ? 1 : 0;
          std::vector<int64_t> ofRows;
          for (int64_t i = 0; i < extents[rowDim] * extents[dim]; ++i)
            ofRows.push_back(i % 5);
          for (bool areData : {false, true})
            c.run({"rope",
                   text("%s, style %d, size %d, %d frequencies, dimension %d%s", nameOf(type), (int)style, (int)n,
                        (int)f, (int)dim, areData ? ", positions of rows" : ""),
                   {c.in(random.floats(120 * (size + 8)), type), areData ? c.in(ofRows) : c.none(),
                    c.out(120 * size, type)},
                   [=](auto &t, auto &) {
                     Words words = {t(type)};
                     append(words, extents);
                     append(words,
                            {from[0], from[1], from[2], to[0], to[1], to[2], dim, rowDim, style, back, bits(1.25), f});
                     for (int64_t i = 0; i < f; ++i)
                       words.push_back(bits(std::pow(10000.0, -(double)i / (double)f)));
                     append(words, cut);
                     return words;
                   }});
        }
}

void testEmbedding(Comparison &c) {
  Words cut = {3, 2, -1, 2, 0, 50, -1}; // 100 of 200 rows: blocks of 50, every second
  for (int type : kTypes)
    for (int64_t columns : {37, 64, 520, 2056})
      for (const Words &positions : {whole({100}), cut}) {
        Random random(6);
        int64_t rows = 100, global = positions.size() > 3 ? 200 : 100, count = 300;
        std::vector<int64_t> ids = random.integers(count, global);
        std::fill_n(ids.begin() + 50, 120, 7); // a row that occurs often
        std::string label = text("%s, %d columns%s", nameOf(type), (int)columns, global > rows ? ", cut" : "");
        auto words = [=](auto &t, bool backward, int64_t accumulate) {
          Words words = {t(type), rows, columns, count};
          if (backward)
            words.push_back(accumulate);
          append(words, positions);
          return words;
        };
        c.run({"embedding",
               label,
               {c.in(random.floats(rows * columns), type), c.in(ids), c.out(count * columns, type)},
               [=](auto &t, auto &) { return words(t, false, 0); }});
        for (int64_t accumulate : {0, 1})
          c.run(
              {"embedding_backward",
               label,
               {c.in(random.floats(count * columns), type), c.in(ids), c.out(random.floats(rows * columns), GVRT_F32)},
               [=](auto &t, auto &) { return words(t, true, accumulate); }});
      }
}

void testLoss(Comparison &c) {
  for (int type : kTypes)
    for (int64_t columns : {37, 1000, 8200})
      for (bool isCut : {false, true}) {
        int64_t rows = 20, ignored = -100;
        Words positions = isCut ? Words{2, 2, 0, columns, -1} : whole({columns});
        Random random(7);
        std::vector<int64_t> labels = random.integers(rows, isCut ? 2 * columns : columns);
        labels[3] = labels[11] = ignored;
        Buffer logits = c.in(random.floats(rows * columns), type), max = c.in(std::vector<float>(rows, 4.0f)),
               sums = c.in(std::vector<float>(rows, 50.0f)), dy = c.in(random.floats(rows));
        std::string label = text("%s, %d columns%s", nameOf(type), (int)columns, isCut ? ", cut" : "");
        c.run({"sum_exp", label, {logits, max, c.out(rows)}, [=](auto &t, auto &) {
                 return Words{t(type), rows, columns};
               }});
        auto words = [=](auto &t, auto &) {
          Words words = {t(type), rows, columns, ignored};
          append(words, positions);
          return words;
        };
        c.run({"target_logit", label, {logits, c.in(labels), c.out(rows)}, words});
        c.run({"cross_entropy_backward",
               label,
               {dy, logits, sums, max, c.in(labels), c.out(rows * columns, type)},
               words});
      }
}

void testReduce(Comparison &c) {
  struct Shape {
    const char *label;
    Words extents, x, y;
    int64_t sizeX, sizeY;
  };
  const Shape shapes[] = {
      {"all of 70000", {70000}, {1}, {0}, 70000, 1},
      {"rows", {50, 1000}, {1000, 1}, {1, 0}, 50000, 50},
      {"rows, odd", {50, 37}, {37, 1}, {1, 0}, 1850, 50},
      {"two long rows", {2, 100000}, {100000, 1}, {1, 0}, 200000, 2},
      {"columns", {3000, 264}, {264, 1}, {0, 1}, 792000, 264},
      {"columns, odd", {300, 37}, {37, 1}, {0, 1}, 11100, 37},
      {"columns of clusters", {2100, 1600}, {1600, 1}, {0, 1}, 3360000, 1600},
      {"columns of clusters, odd", {530, 1601}, {1601, 1}, {0, 1}, 848530, 1601},
      {"columns of wide clusters", {700, 6400}, {6400, 1}, {0, 1}, 4480000, 6400},
      {"columns of clusters of two", {150, 22016}, {22016, 1}, {0, 1}, 3302400, 22016},
      {"columns of clusters, with gaps", {2100, 1600}, {1608, 1}, {0, 1}, 3376800, 1600},
      {"columns of few rows", {528, 1600}, {1600, 1}, {0, 1}, 844800, 1600},
      {"middle", {6, 50, 40}, {2000, 40, 1}, {40, 0, 1}, 12000, 240},
      {"outer and inner", {6, 50, 40}, {2000, 40, 1}, {0, 1, 0}, 12000, 50},
      {"group of heads", {2, 3, 4, 10, 16}, {1920, 640, 160, 16, 1}, {480, 160, 0, 16, 1}, 3840, 960},
      {"transposed result", {20, 30, 8}, {240, 8, 1}, {1, 20, 0}, 4800, 600},
      {"nothing reduced", {20, 30}, {30, 1}, {1, 20}, 600, 600},
  };
  for (auto [type, yType] : {std::pair(GVRT_F32, GVRT_F32),
                             {GVRT_BF16, GVRT_F32},
                             {GVRT_BF16, GVRT_BF16},
                             {GVRT_F16, GVRT_F32},
                             {GVRT_F16, GVRT_F16}})
    for (const Shape &s : shapes)
      for (int64_t kind : {0, 1})
        for (int64_t accumulate : {0, 1}) {
          Random random(8);
          c.run({"reduce",
                 text("%s -> %s, %s, %s%s", nameOf(type), nameOf(yType), kind ? "max" : "sum", s.label,
                      accumulate ? ", accumulated" : ""),
                 {c.in(random.floats(s.sizeX), type), c.out(random.floats(s.sizeY), yType)},
                 [=](auto &t, auto &) {
                   Words words = {t(type), t(yType), kind, accumulate, (int64_t)s.extents.size()};
                   append(words, s.extents);
                   append(words, s.x);
                   append(words, s.y);
                   return words;
                 }});
        }
}

void testCopy(Comparison &c) {
  struct Shape {
    const char *label;
    Words extents, x, y;
    int64_t sizeX, sizeY;
  };
  const Shape shapes[] = {
      {"contiguous", {1000}, {1}, {1}, 1000, 1000},
      {"contiguous, odd", {1001}, {1}, {1}, 1001, 1001},
      {"rows of another length", {30, 64}, {80, 1}, {64, 1}, 2400, 1920},
      {"heads to front", {2, 30, 4, 64}, {7680, 256, 64, 1}, {7680, 64, 1920, 1}, 15360, 15360},
      {"heads to front, odd", {2, 30, 4, 37}, {4440, 148, 37, 1}, {4440, 37, 1110, 1}, 8880, 8880},
      {"transpose", {100, 200}, {200, 1}, {1, 100}, 20000, 20000},
      {"batched transpose", {3, 70, 90}, {6300, 90, 1}, {6300, 1, 70}, 18900, 18900},
      {"broadcast", {40, 50}, {0, 1}, {50, 1}, 50, 2000},
      {"broadcast inside", {40, 50}, {1, 0}, {50, 1}, 40, 2000},
      {"nothing is contiguous", {10, 20}, {60, 3}, {2, 20}, 600, 400},
  };
  for (int type : {(int)GVRT_F32, (int)GVRT_BF16, (int)GVRT_I64, kByte})
    for (const Shape &s : shapes) {
      Random random(9);
      bool isFloat = type == GVRT_F32 || isHalf(type);
      std::vector<int64_t> values = random.integers(s.sizeX, 100);
      std::vector<int64_t> before(s.sizeY, 1);
      c.run({"copy",
             text("%d bytes, %s", (int)bytesOf(type), s.label),
             {isFloat ? c.in(random.floats(s.sizeX), type) : c.in(values, type),
              isFloat ? c.out(s.sizeY, type) : c.out(before, type)},
             [=](auto &, auto &b) {
               Words words = {b(type), (int64_t)s.extents.size()};
               append(words, s.extents);
               append(words, s.x);
               append(words, s.y);
               return words;
             }});
    }
  Random random(10);
  for (int type : kTypes)
    c.run({"shard",
           text("%s", nameOf(type)),
           {c.in(random.floats(5 * 2 * 24), type), c.out(5 * 24, type)},
           [=](auto &, auto &b) { return Words{0, b(type), 5, 24, /*mirrored=*/0, /*size=*/2, 0, 1}; }});
  c.run({"shift",
         "by 1",
         {c.in(random.integers(3 * 20 * 2, 99)), c.out(std::vector<int64_t>(120), GVRT_I64)},
         [](auto &, auto &) { return Words{3, 20, 2, 1, -100}; }});
  c.run({"shift",
         "by -2",
         {c.in(random.integers(3 * 20, 99)), c.out(std::vector<int64_t>(60), GVRT_I64)},
         [](auto &, auto &) { return Words{3, 20, 1, -2, -100}; }});
  c.run({"fill_zero", "1001 bytes of f32", {c.out(random.floats(300), GVRT_F32)}, [](auto &, auto &) {
           return Words{1001 / 4 * 4};
         }});
}

void testElementwise(Comparison &c) {
  Words cut = {1, 6, -1, 2, 2, 0, 40, -1};
  for (int type : kTypes)
    for (int yType : kTypes)
      for (int64_t count : {1, 1000, 1003}) {
        Random random(11);
        for (const char *function : {"accumulate", "convert"})
          c.run({function,
                 text("%s -> %s, %d", nameOf(type), nameOf(yType), (int)count),
                 {c.in(random.floats(count), type), c.out(random.floats(count), yType)},
                 [=](auto &t, auto &) { return Words{t(type), t(yType), count}; }});
      }
  for (int type : kTypes) {
    Random random(12);
    for (const auto &[extents, positions] :
         {std::pair<Words, Words>{{6, 40}, whole({6, 40})}, {{6, 40}, cut}, {{7, 37}, whole({7, 37})}}) {
      Words shape = extents, places = positions;
      int64_t count = shape[0] * shape[1];
      c.run({"dropout",
             text("%s, %d x %d%s", nameOf(type), (int)shape[0], (int)shape[1], places.size() > 6 ? ", cut" : ""),
             {c.in(random.floats(count), type), c.out(count, type)},
             [=](auto &t, auto &) {
               Words words = {t(type), bits(0.3), 9, 2};
               append(words, shape);
               append(words, places);
               return words;
             }});
    }
  }
  auto iota = [=](int64_t type) {
    return [=](auto &, auto &) {
      Words words = {type, 1, 2, 6, 40};
      append(words, cut);
      return words;
    };
  };
  c.run({"iota", "f32", {c.out(240)}, iota(GVRT_F32)});
  c.run({"iota", "i64", {c.out(std::vector<int64_t>(240), GVRT_I64)}, iota(GVRT_I64)});
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::printf("usage: KernelsTest <libgalvatron_cpu.so> <libgalvatron_cuda.so>\n");
    return 2;
  }
  MPI_Init(&argc, &argv);
  DeviceLibrary cpu(argv[1]);
  Gpu gpu(argv[2], (int64_t)1 << 30);
  Comparison c(cpu, gpu);
  testMatmulAdd(c);
  testMatmul(c);
  testRows(c);
  testRope(c);
  testEmbedding(c);
  testLoss(c);
  testReduce(c);
  testCopy(c);
  testElementwise(c);
  testAttentions(c);
  std::printf("%d of %d calls failed\n", c.failures, c.calls);
  std::fflush(stdout);
  _exit(c.failures ? 1 : 0); // the driver's own end of process is not under test
}
