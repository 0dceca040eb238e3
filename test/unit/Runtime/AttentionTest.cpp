// Attention and its gradients against the definition in f64, with everything that a mask can be.
#include "RuntimeFixture.h"
#include "runtime/api/CounterRandom.h"

using namespace galvatron::test;

namespace {

struct Case {
  const char *name;
  int64_t queries = 300, keys = 300, heads = 2, keyHeads = 1, size = 8, valueSize = 8;
  bool causal = true;
  int64_t window = 0;
  double softcap = 0, dropout = 0;
  bool bias = false;
  int64_t parts = 1;     // of the query positions; this device holds the last
  int64_t document = 0;  // its length in keys, one more in each row of the batch; 0: no documents
  bool shuffled = false; // documents in an order that does not ascend
};

/// Tensors of a case and the definition's results. Layouts are [batch, position, head, element].
struct Reference {
  static constexpr int64_t kBatch = 2;
  Case c;
  double scale = 0.4;
  int64_t firstQuery;
  std::vector<float> q, k, v, dy, bias;
  std::vector<int64_t> queryDocuments, keyDocuments;
  std::vector<double> y, lse, dq, dk, dv;

  explicit Reference(const Case &c) : c(c) {
    firstQuery = c.queries * (c.parts - 1);
    q = values(kBatch * c.queries * c.heads * c.size, 1);
    k = values(kBatch * c.keys * c.keyHeads * c.size, 2);
    v = values(kBatch * c.keys * c.keyHeads * c.valueSize, 3);
    dy = values(kBatch * c.queries * c.heads * c.valueSize, 4);
    bias = values(c.heads * c.queries * c.keys, 5);
    for (int64_t b = 0; c.document && b < kBatch; ++b) {
      for (int64_t j = 0; j < c.keys; ++j)
        keyDocuments.push_back(documentOf(b, j));
      for (int64_t i = 0; i < c.queries; ++i)
        queryDocuments.push_back(documentOf(b, positionOf(i)));
    }
    y.resize(dy.size());
    lse.resize(kBatch * c.heads * c.queries);
    dq.resize(q.size());
    dk.resize(k.size());
    dv.resize(v.size());
    for (int64_t b = 0; b < kBatch; ++b)
      for (int64_t n = 0; n < c.heads; ++n)
        for (int64_t i = 0; i < c.queries; ++i)
          row(b, n, i);
  }

  int64_t positionOf(int64_t query) const { return firstQuery + query + c.keys - c.queries * c.parts; }
  int64_t documentOf(int64_t b, int64_t position) const {
    int64_t document = position / (c.document + b);
    return c.shuffled ? document * 7 % 10 : document;
  }
  int64_t queryAt(int64_t b, int64_t n, int64_t i, int64_t size) const {
    return ((b * c.queries + i) * c.heads + n) * size;
  }
  int64_t keyAt(int64_t b, int64_t n, int64_t j, int64_t size) const {
    return ((b * c.keys + j) * c.keyHeads + n / (c.heads / c.keyHeads)) * size;
  }

  void row(int64_t b, int64_t n, int64_t i) {
    auto stream = galvatron::random::dropoutStream(3, 2, 77, 4);
    int64_t globalQueries = c.queries * c.parts, query = firstQuery + i, position = positionOf(i);
    std::vector<double> p(c.keys), t(c.keys), keep(c.keys, 1), dp(c.keys);
    double sum = 0, delta = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      double s = 0;
      for (int64_t d = 0; d < c.size; ++d)
        s += (double)q[queryAt(b, n, i, c.size) + d] * k[keyAt(b, n, j, c.size) + d];
      s *= scale;
      if (c.softcap > 0)
        s = c.softcap * (t[j] = std::tanh(s / c.softcap));
      if (c.bias)
        s += bias[(n * c.queries + i) * c.keys + j];
      bool hidden = (c.causal && j > position) || (c.window > 0 && position - j >= c.window) ||
                    (c.document && documentOf(b, j) != documentOf(b, position));
      p[j] = hidden ? 0 : std::exp(s);
      sum += p[j];
      if (c.dropout > 0) {
        uint64_t e = ((b * c.heads + n) * globalQueries + query) * c.keys + j;
        keep[j] = galvatron::random::keeps(stream, e, c.dropout) ? 1 / (1 - c.dropout) : 0;
      }
    }
    lse[(b * c.heads + n) * c.queries + i] = std::log(sum);
    for (int64_t j = 0; j < c.keys; ++j) {
      p[j] = sum > 0 ? p[j] / sum : 0;
      for (int64_t d = 0; d < c.valueSize; ++d) {
        double g = dy[queryAt(b, n, i, c.valueSize) + d], value = v[keyAt(b, n, j, c.valueSize) + d];
        y[queryAt(b, n, i, c.valueSize) + d] += p[j] * keep[j] * value;
        dv[keyAt(b, n, j, c.valueSize) + d] += p[j] * keep[j] * g;
        dp[j] += g * value * keep[j];
      }
      delta += p[j] * dp[j];
    }
    for (int64_t j = 0; j < c.keys; ++j) {
      double ds = p[j] * (dp[j] - delta) * (c.softcap > 0 ? 1 - t[j] * t[j] : 1) * scale;
      for (int64_t d = 0; d < c.size; ++d) {
        dq[queryAt(b, n, i, c.size) + d] += ds * k[keyAt(b, n, j, c.size) + d];
        dk[keyAt(b, n, j, c.size) + d] += ds * q[queryAt(b, n, i, c.size) + d];
      }
    }
  }
};

class AttentionTest : public RuntimeTest, public ::testing::WithParamInterface<Case> {};

TEST_P(AttentionTest, EqualsTheDefinition) {
  const Case &c = GetParam();
  Reference reference(c);
  context.seed = 3;
  context.step = 2;
  context.layer = 77;
  context.coordinates = {c.parts - 1};
  auto strides = [](int64_t positions, int64_t heads, int64_t size) {
    return std::vector<int64_t>{positions * heads * size, size, heads * size};
  };
  auto add = [](std::vector<int64_t> &to, const std::vector<int64_t> &from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  constexpr int64_t kBatch = Reference::kBatch;
  std::vector<int64_t> words = {
      GVRT_F32,    /*workspace_bytes=*/0, kBatch,   c.heads,  c.keyHeads,      c.queries,       c.keys, c.size,
      c.valueSize, bits(reference.scale), c.causal, c.window, bits(c.softcap), bits(c.dropout), 4};
  std::vector<int64_t> qs = strides(c.queries, c.heads, c.size), ks = strides(c.keys, c.keyHeads, c.size),
                       vs = strides(c.keys, c.keyHeads, c.valueSize), ys = strides(c.queries, c.heads, c.valueSize);
  for (const auto &s : {qs, ks, vs, ys})
    add(words, s);
  add(words, {0, c.queries * c.keys, c.keys, 1});
  std::vector<int64_t> positions = {1, kBatch, -1, 1, c.heads, -1, 2, c.parts, 0, c.queries, -1, 1, c.keys, -1};
  std::vector<int64_t> backwardWords = words;
  for (const auto &s : {ys, qs, ks, vs})
    add(backwardWords, s);
  add(words, positions);
  add(backwardWords, positions);

  const float *bias = c.bias ? reference.bias.data() : nullptr;
  std::vector<float> y(reference.y.size(), NAN), lse(reference.lse.size(), NAN), dq(reference.dq.size(), NAN),
      dk(reference.dk.size(), NAN), dv(reference.dv.size(), NAN);
  std::vector<const void *> forward = {reference.q.data(), reference.k.data(), reference.v.data()},
                            backward = {reference.dy.data(), reference.q.data(), reference.k.data(),
                                        reference.v.data(),  y.data(),           lse.data()};
  for (auto *buffers : {&forward, &backward}) {
    if (c.document)
      buffers->insert(buffers->end(), {reference.queryDocuments.data(), reference.keyDocuments.data()});
    buffers->push_back(bias);
  }
  forward.insert(forward.end(), {y.data(), lse.data(), nullptr});
  backward.insert(backward.end(), {dq.data(), dk.data(), dv.data(), nullptr});
  if (c.document) // not the run's own
    for (auto *all : {&words, &backwardWords})
      all->insert(all->begin(), 0);
  call(c.document ? gvrt_document_attention : gvrt_attention, forward, words);
  call(c.document ? gvrt_document_attention_backward : gvrt_attention_backward, backward, backwardWords);
  expectNear(y, reference.y, 1e-6, "y");
  for (size_t i = 0; i < lse.size(); ++i)
    EXPECT_TRUE(lse[i] == reference.lse[i] || std::fabs(lse[i] - reference.lse[i]) < 1e-5);
  expectNear(dq, reference.dq, 2e-6, "dq");
  expectNear(dk, reference.dk, 2e-6, "dk");
  expectNear(dv, reference.dv, 2e-6, "dv");
}

INSTANTIATE_TEST_SUITE_P(
    Masks, AttentionTest,
    ::testing::Values(Case{.name = "causal"}, Case{.name = "full", .causal = false},
                      Case{.name = "small", .queries = 5, .keys = 5, .heads = 1, .size = 3, .valueSize = 7},
                      Case{.name = "grouped", .queries = 33, .keys = 33, .heads = 6, .keyHeads = 2},
                      Case{.name = "window", .window = 40},
                      Case{.name = "windowOfOne", .queries = 40, .keys = 40, .window = 1},
                      Case{.name = "windowBothWays", .causal = false, .window = 70},
                      Case{.name = "moreKeys", .queries = 17, .keys = 301},
                      Case{.name = "moreQueries", .queries = 301, .keys = 17}, // the first queries see nothing
                      Case{.name = "softcap", .queries = 130, .keys = 130, .softcap = 1.5},
                      Case{.name = "bias", .queries = 129, .keys = 129, .bias = true},
                      Case{.name = "dropout", .queries = 140, .keys = 140, .dropout = 0.25},
                      Case{.name = "dropoutOfAPart", .queries = 35, .keys = 70, .dropout = 0.5, .parts = 2},
                      Case{.name = "causalOfAPart", .queries = 100, .keys = 300, .parts = 3},
                      Case{.name = "documents", .document = 37},
                      Case{.name = "documentsOfOne", .queries = 40, .keys = 40, .document = 1},
                      Case{.name = "documentsBothWays", .causal = false, .bias = true, .document = 100},
                      Case{.name = "documentsOfAPart",
                           .queries = 100,
                           .keys = 300,
                           .window = 40,
                           .dropout = 0.25,
                           .parts = 3,
                           .document = 70},
                      Case{.name = "documentsInAnyOrder", .document = 40, .shuffled = true},
                      Case{.name = "everything",
                           .queries = 150,
                           .keys = 300,
                           .heads = 4,
                           .keyHeads = 2,
                           .size = 16,
                           .valueSize = 5,
                           .window = 100,
                           .softcap = 2,
                           .dropout = 0.1,
                           .bias = true,
                           .parts = 2}),
    [](const auto &info) { return info.param.name; });

} // namespace
