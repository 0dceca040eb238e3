//===- ToyStage.cpp - a stage binary written by hand ------------------------------------------===//
//
// What the compiler emits, for a model small enough to check by hand: a bigram language model,
//
//   x = table[ids]          stage 0
//   logits = x wᵀ + b       last stage; loss: mean cross-entropy against the next token
//
// under any plan of stages × (dp, tp), tp cutting w and b by rows (the vocabulary). The plan is read from plan.txt
// beside the binary ("stages dp tp micro-batches [word]"), the stage's number from the end of the binary's name. A word
// makes the program break in step 2: "segfault", "nan" (the loss), "gradient" (its first bias' is NaN) or "mpi" on the
// last rank; or be wrong itself: "twice" (both stages count the first parameter), "large" (its arena), "lost" (a file
// of weights that is not there), "undrawn" (the bias has no initial values), "old" (compiled
// for other functions).
//
//===-----------------------------------------------------------------------------------------===//
#include "runtime/api/Abi.h"
#include "runtime/api/Functions.h"
#include "runtime/core/Context.h"

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace {

constexpr int64_t kBatch = 8, kSequence = 8, kVocabulary = 16, kHidden = 6, kIgnored = -100;

struct Plan {
  int64_t stages = 1, dp = 1, tp = 1, microBatches = 2;
  std::string word;
};

/// "Generated" body: loss += Σ (log(sum) + max - target)·factor over labels that count; dy = factor there.
void lossBody(gvrt_context *, void *const *buffer, const int64_t *attribute) {
  auto *sum = static_cast<const float *>(buffer[0]), *max = static_cast<const float *>(buffer[1]);
  auto *target = static_cast<const float *>(buffer[2]);
  auto *labels = static_cast<const int64_t *>(buffer[3]);
  auto *loss = static_cast<float *>(buffer[4]), *dy = static_cast<float *>(buffer[5]);
  float factor = 1.0f / (float)attribute[1], total = 0;
  for (int64_t r = 0; r < attribute[0]; ++r) {
    bool counts = labels[r] != kIgnored;
    total += counts ? (std::log(sum[r]) + max[r] - target[r]) * factor : 0;
    dy[r] = factor;
  }
  *loss += total;
}

/// Breaks the program in step 2 on the last rank.
void breakBody(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  if (context->step != 2 || context->rank != context->ranks - 1)
    return;
  if (attribute[0] == 1)
    *static_cast<float *>(buffer[0]) = NAN;
  else if (attribute[0] == 2)
    MPI_Bcast(nullptr, -1, MPI_INT, 0, MPI_COMM_WORLD);
  else
    std::raise(SIGSEGV);
}

const gvrt_function kFunctions[] = {
#define GVRT_FUNCTION(name, buffers, attributes) gvrt_##name,
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
    lossBody, breakBody};

enum Function : int64_t {
#define GVRT_FUNCTION(name, buffers, attributes) k_##name,
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
  k_loss,
  k_break,
};

class Stage {
public:
  Stage(const Plan &plan, int64_t stage) : plan(plan), stage(stage) {
    rows = kBatch / plan.microBatches / plan.dp;
    tokens = rows * kSequence;
    columns = kVocabulary / plan.tp;
    build();
  }

  gvrt_program program() {
    text = manifest.str();
    return {galvatron::kAbi + (plan.word == "old"),
            text.c_str(),
            kFunctions,
            (int64_t)std::size(kFunctions),
            timetable.data(),
            (int64_t)timetable.size(),
            /*kernels=*/nullptr,
            0};
  }

private:
  int64_t allocate(int64_t bytes) {
    int64_t offset = arena;
    arena += (bytes + 63) / 64 * 64;
    return offset;
  }

  void add(Function function, const std::string &name, int64_t microBatch, std::vector<int64_t> buffers,
           std::vector<int64_t> attributes) {
    names.push_back(name);
    timetable.insert(timetable.end(), {6 + (int64_t)(buffers.size() + attributes.size()), function,
                                       (int64_t)names.size() - 1, microBatch, -1, (int64_t)buffers.size()});
    timetable.insert(timetable.end(), buffers.begin(), buffers.end());
    timetable.insert(timetable.end(), attributes.begin(), attributes.end());
  }

  // Mesh axis 0 is dp, axis 1 tp, each only if larger than one.
  int64_t dpAxis() const { return 0; }
  int64_t tpAxis() const { return plan.dp > 1; }
  std::string subAxis(int64_t extent, int64_t meshAxis) const {
    return "[" + std::to_string(extent) + ", " + std::to_string(meshAxis) + "]";
  }
  std::string localDimension(int64_t extent) const { return "[" + subAxis(extent, -1) + "]"; }
  std::string vocabularyDimension() const {
    return plan.tp > 1 ? "[" + subAxis(plan.tp, tpAxis()) + ", " + subAxis(columns, -1) + "]"
                       : localDimension(kVocabulary);
  }
  /// P of the vocabulary.
  std::vector<int64_t> vocabularyWords() const {
    return plan.tp > 1 ? std::vector<int64_t>{2, plan.tp, tpAxis(), columns, -1}
                       : std::vector<int64_t>{1, kVocabulary, -1};
  }

  struct Parameter {
    int64_t value, gradient, count;
  };
  Parameter parameter(const std::string &name, std::vector<int64_t> shape, std::vector<std::string> placement,
                      int64_t count, const std::string &init) {
    Parameter p{allocate(count * 4), allocate(count * 4), count};
    int64_t first = allocate(count * 4), second = allocate(count * 4);
    parameters << (parameters.str().empty() ? "" : ", ") << "{\"names\": [\"" << name << "\", \"" << name
               << ".tied\"], \"shape\": [" << shape[0];
    if (shape.size() > 1)
      parameters << ", " << shape[1];
    parameters << "], \"placement\": [" << placement[0];
    if (placement.size() > 1)
      parameters << ", " << placement[1];
    parameters << "]" << (init.empty() ? "" : ", \"init\": " + init) << ", \"parameter\": " << p.value
               << ", \"gradient\": " << p.gradient << ", \"first_moment\": " << first
               << ", \"second_moment\": " << second << ", \"count\": " << count << "}";
    return p;
  }

  int64_t input(const std::string &name) {
    int64_t bytes = tokens * 8, offset = allocate(bytes * plan.microBatches);
    inputs << (inputs.str().empty() ? "" : ", ") << "{\"name\": \"" << name << "\", \"offset\": " << offset
           << ", \"bytes_per_micro_batch\": " << bytes << ", \"shape\": [" << kBatch << ", " << kSequence
           << "], \"placement\": [[" << subAxis(plan.microBatches, -2) << ", ";
    if (plan.dp > 1)
      inputs << subAxis(plan.dp, dpAxis()) << ", ";
    inputs << subAxis(rows, -1) << "], " << localDimension(kSequence) << "]}";
    return offset;
  }

  void forwardEmbedding(int64_t m) {
    add(k_embedding, "forward table", m, {table.value, ids + m * tokens * 8, x},
        {GVRT_F32, kVocabulary, kHidden, tokens, 1, kVocabulary, -1});
    if (plan.stages > 1)
      sendAndWait("x", m, x, 1);
  }

  void head(int64_t m) {
    if (plan.stages > 1)
      add(k_receive, "receive x", m, {x}, {0, m, tokens * kHidden * 4, -1});
    add(k_copy, "bias", m, {b.value, logits}, {4, 2, tokens, columns, 0, 1, columns, 1});
    add(k_matmul, "logits", m, {x, w.value, logits},
        {GVRT_F32, GVRT_F32, tokens, columns, kHidden, kHidden, 1, 1, kHidden, columns, 1, 1, 0});
    add(k_shift, "labels", m, {labels + m * tokens * 8, shifted}, {rows, kSequence, 1, 1, kIgnored});
    add(k_reduce, "max", m, {logits, max}, {GVRT_F32, GVRT_F32, 1, 0, 2, tokens, columns, columns, 1, 1, 0});
    reduceOverTp("max", m, max, tokens, 1);
    add(k_sum_exp, "sum", m, {logits, max, sum}, {GVRT_F32, tokens, columns});
    reduceOverTp("sum", m, sum, tokens, 0);
    add(k_target_logit, "target", m, {logits, shifted, target}, withVocabulary({GVRT_F32, tokens, columns, kIgnored}));
    reduceOverTp("target", m, target, tokens, 0);
    add(k_loss, "loss", m, {sum, max, target, shifted, loss, dy}, {tokens, kBatch * (kSequence - 1)});
    add(k_cross_entropy_backward, "dlogits", m, {dy, logits, sum, max, shifted, dlogits},
        withVocabulary({GVRT_F32, tokens, columns, kIgnored}));
    add(k_matmul, "dw", m, {dlogits, x, w.gradient},
        {GVRT_F32, GVRT_F32, columns, kHidden, tokens, 1, columns, kHidden, 1, kHidden, 1, 1, 0});
    add(k_reduce, "db", m, {dlogits, b.gradient}, {GVRT_F32, GVRT_F32, 0, 1, 2, tokens, columns, columns, 1, 0, 1});
    add(k_matmul, "dx", m, {dlogits, w.value, dx},
        {GVRT_F32, GVRT_F32, tokens, kHidden, columns, columns, 1, kHidden, 1, kHidden, 1, 0, 0});
    reduceOverTp("dx", m, dx, tokens * kHidden, 0);
    if (plan.stages > 1)
      sendAndWait("dx", m, dx, 0);
  }

  void backwardEmbedding(int64_t m) {
    if (plan.stages > 1)
      add(k_receive, "receive dx", m, {dx}, {1, m, tokens * kHidden * 4, -1});
    add(k_embedding_backward, "dtable", m, {dx, ids + m * tokens * 8, table.gradient},
        {GVRT_F32, kVocabulary, kHidden, tokens, 1, 1, kVocabulary, -1});
  }

  void sendAndWait(const std::string &name, int64_t m, int64_t buffer, int64_t to) {
    add(k_send, "send " + name, m, {buffer}, {to, m, tokens * kHidden * 4, /*handle=*/m});
    add(k_wait, "wait for " + name, m, {buffer}, {m});
  }

  std::vector<int64_t> withVocabulary(std::vector<int64_t> words) const {
    for (int64_t word : vocabularyWords())
      words.push_back(word);
    return words;
  }

  void reduceOverTp(const std::string &name, int64_t m, int64_t buffer, int64_t count, int64_t kind) {
    if (plan.tp > 1)
      add(k_all_reduce, "all-reduce " + name, m, {buffer, buffer}, {1, GVRT_F32, kind, count, /*handle=*/-1});
  }
  void reduceOverDp(const std::string &name, const Parameter &p) {
    if (plan.dp > 1)
      add(k_all_reduce, "all-reduce d" + name, -1, {p.gradient, p.gradient}, {0, GVRT_F32, 0, p.count, /*handle=*/-1});
  }

  void build() {
    bool first = stage == 0, last = stage == plan.stages - 1;
    ids = input("input_ids");
    labels = input("labels");
    std::string normal = "{\"normal\": [0.0, 0.5]}";
    if (first || plan.word == "twice")
      table = parameter("table.weight", {kVocabulary, kHidden}, {localDimension(kVocabulary), localDimension(kHidden)},
                        kVocabulary * kHidden, normal);
    if (last) {
      w = parameter("head.weight", {kVocabulary, kHidden}, {vocabularyDimension(), localDimension(kHidden)},
                    columns * kHidden, normal);
      b = parameter("head.bias", {kVocabulary}, {vocabularyDimension()}, columns,
                    plan.word == "undrawn" ? "" : "{\"constant\": 0.0}");
    }
    for (int64_t *buffer : {&x, &dx})
      *buffer = allocate(tokens * kHidden * 4);
    for (int64_t *buffer : {&logits, &dlogits})
      *buffer = allocate(tokens * columns * 4);
    for (int64_t *buffer : {&max, &sum, &target, &dy})
      *buffer = allocate(tokens * 4);
    shifted = allocate(tokens * 8);
    loss = allocate(4);
    add(k_fill_zero, "zero loss", -1, {loss}, {4});
    for (const Parameter *p : {&table, &w, &b})
      if (p->count)
        add(k_fill_zero, "zero gradient", -1, {p->gradient}, {p->count * 4});
    for (int64_t m = 0; m < plan.microBatches; ++m) {
      if (first)
        forwardEmbedding(m);
      if (last)
        head(m);
      if (first)
        backwardEmbedding(m);
    }
    for (auto [name, p] : {std::pair{"table", &table}, {"w", &w}, {"b", &b}})
      if (p->count)
        reduceOverDp(name, *p);
    bool isGradient = plan.word == "gradient", isNan = isGradient || plan.word == "nan";
    if (isNan || plan.word == "mpi" || plan.word == "segfault")
      add(k_break, "break here", -1, {last ? (isGradient ? b.gradient : loss) : x},
          {isNan                ? 1
           : plan.word == "mpi" ? 2
                                : 0});
    writeManifest(last);
  }

  void writeManifest(bool last) {
    manifest << "{\"format\": 1, \"stage\": " << stage << ", \"stages\": " << plan.stages
             << ", \"devices\": " << plan.dp * plan.tp << ", \"mesh\": [";
    if (plan.dp > 1)
      manifest << plan.dp << (plan.tp > 1 ? ", " : "");
    if (plan.tp > 1)
      manifest << plan.tp;
    manifest << "], \"schedule\": \"gpipe\", \"global_batch\": " << kBatch
             << ", \"micro_batches\": " << plan.microBatches << ", \"sequence\": " << kSequence
             << ", \"vocabulary\": " << kVocabulary
             << ", \"model\": \"toy\", \"arena_bytes\": " << (plan.word == "large" ? int64_t(1) << 48 : arena)
             << (plan.word == "lost" ? ", \"weights\": \"toy.safetensors\"" : "") << ", \"parameters\": ["
             << parameters.str() << "], \"inputs\": [" << inputs.str() << "], \"losses\": [";
    if (last)
      manifest << "{\"offset\": " << loss << ", \"partial_axes\": [" << (plan.dp > 1 ? "0" : "") << "]}";
    manifest << "], \"groups\": [{\"axes\": [" << (plan.dp > 1 ? "0" : "") << "]}, {\"axes\": ["
             << (plan.tp > 1 ? std::to_string(tpAxis()) : "") << "]}], \"names\": [";
    for (size_t i = 0; i < names.size(); ++i)
      manifest << (i ? ", " : "") << "\"" << names[i] << "\"";
    manifest << "], \"units\": [\"table\", \"head\"]}";
  }

  Plan plan;
  int64_t stage, rows, tokens, columns, arena = 0;
  int64_t ids, labels, shifted, x, dx, logits, dlogits, max, sum, target, dy, loss;
  Parameter table{0, 0, 0}, w{0, 0, 0}, b{0, 0, 0};
  std::vector<int64_t> timetable;
  std::vector<std::string> names;
  std::ostringstream manifest, parameters, inputs;
  std::string text;
};

} // namespace

int main(int argc, char **argv) {
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  Plan plan;
  std::ifstream(self.parent_path() / "plan.txt") >> plan.stages >> plan.dp >> plan.tp >> plan.microBatches >> plan.word;
  Stage stage(plan, self.filename().string().back() - '0');
  gvrt_program program = stage.program();
  return gvrt_main(argc, argv, &program);
}
