//===- CudaStage.cpp - a stage binary for GPUs written by hand ----------------------------------------===//
//
// What the compiler emits with --target=cuda, for a "model" whose gradients one can write down: with M micro-batches on
// D devices of S stages, each with parameters w [64, 65] and b [64],
//
//   gradient of stage s's w     D·M·w of stage s - 1 (of its own where s = 0), which comes by send and receive
//   gradient of stage s's b     D·M·b of stage s + 1 (zero where s is the last), which comes the other way
//   loss, on the last stage     Σ over micro-batches of w[0] + first token of device 0's part
//
// so that generated kernels, collectives, both directions between stages, the captured step and the update all show in
// numbers. The plan is read from plan.txt beside the binary ("stages devices [word]"), the stage's number from the end
// of the binary's name. A word breaks the program: "huge" plans more memory than any GPU has, "fault" runs a kernel
// that fails, "nan" makes the loss one.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "CudaKernels.h"
#include "runtime/api/Abi.h"
#include "runtime/api/Functions.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

using namespace galvatron::test;

namespace {

constexpr int64_t kRows = 64, kColumns = 65, kMicroBatches = 2, kBatch = 8, kSequence = 8, kVocabulary = 16;
constexpr int64_t kWeight = kRows * kColumns, kThreads = 32;

const gvrt_function kFunctions[] = {gvrt_launch, gvrt_all_reduce, gvrt_send, gvrt_receive, gvrt_wait};
enum Function : int64_t { kLaunch, kAllReduce, kSend, kReceive, kWait };

class Stage {
public:
  Stage(int64_t stages, int64_t devices, const std::string &word, int64_t stage)
      : stages(stages), devices(devices), stage(stage), word(word) {
    build();
  }

  gvrt_program program() {
    text = manifest.str();
    return {galvatron::kAbi,  text.c_str(),
            kFunctions,       (int64_t)std::size(kFunctions),
            timetable.data(), (int64_t)timetable.size(),
            kKernels,         (int64_t)sizeof kKernels};
  }

private:
  int64_t allocate(int64_t bytes) {
    int64_t offset = arena;
    arena += (bytes + 255) / 256 * 256;
    return offset;
  }

  void add(Function function, const std::string &name, std::vector<int64_t> buffers, std::vector<int64_t> attributes) {
    names.push_back(name);
    timetable.insert(timetable.end(), {6 + (int64_t)(buffers.size() + attributes.size()), function,
                                       (int64_t)names.size() - 1, -1, -1, (int64_t)buffers.size()});
    timetable.insert(timetable.end(), buffers.begin(), buffers.end());
    timetable.insert(timetable.end(), attributes.begin(), attributes.end());
  }
  void launch(Kernel kernel, const std::string &name, std::vector<int64_t> buffers, int64_t count) {
    int64_t threads = count == 1 ? 1 : kThreads, numBuffers = buffers.size();
    add(kLaunch, name, buffers, {kernel, count / threads, threads, numBuffers});
  }

  struct Parameter {
    int64_t value, gradient, count;
  };
  Parameter parameter(const std::string &name, const std::string &shape, const std::string &placement, int64_t count) {
    Parameter p{allocate(count * 4), allocate(count * 4), count};
    int64_t first = allocate(count * 4), second = allocate(count * 4);
    parameters << (parameters.str().empty() ? "" : ", ") << "{\"names\": [\"" << name << stage
               << "\"], \"shape\": " << shape << ", \"placement\": " << placement
               << ", \"init\": {\"normal\": [0.0, 0.5]}, \"parameter\": " << p.value << ", \"gradient\": " << p.gradient
               << ", \"first_moment\": " << first << ", \"second_moment\": " << second << ", \"count\": " << count
               << "}";
    return p;
  }

  void microBatch(int64_t m) {
    std::string number = " " + std::to_string(m);
    bool first = stage == 0, last = stage == stages - 1;
    if (!first)
      add(kReceive, "receive w" + number, {x}, {stage - 1, m, kWeight * 4, -1});
    launch(kAdd, "add w" + number, {first ? w.value : x, w.gradient}, kWeight);
    if (!last) {
      add(kSend, "send w" + number, {w.value}, {stage + 1, m, kWeight * 4, m});
      add(kReceive, "receive b" + number, {y}, {stage + 1, 100 + m, kRows * 4, -1});
      launch(kAdd, "add b" + number, {y, b.gradient}, kRows);
      add(kWait, "wait for w" + number, {w.value}, {m});
    }
    if (!first) {
      add(kSend, "send b" + number, {b.value}, {stage - 1, 100 + m, kRows * 4, 10 + m});
      add(kWait, "wait for b" + number, {b.value}, {10 + m});
    }
    if (last)
      launch(kLoss, "loss" + number, {w.value, ids + m * bytesPerMicroBatch, loss}, 1);
  }

  void build() {
    bytesPerMicroBatch = kBatch / kMicroBatches / devices * kSequence * 8;
    ids = allocate(bytesPerMicroBatch * kMicroBatches);
    w = parameter("w", "[64, 65]", "[[[64, -1]], [[65, -1]]]", kWeight);
    b = parameter("b", "[64]", "[[[64, -1]]]", kRows);
    x = allocate(kWeight * 4);
    y = allocate(kRows * 4);
    loss = allocate(4);
    workspace = allocate(1 << 20);
    launch(kZero, "zero loss", {loss}, 1);
    launch(kZero, "zero gradient", {w.gradient}, kWeight);
    launch(kZero, "zero gradient", {b.gradient}, kRows);
    for (int64_t m = 0; m < kMicroBatches; ++m)
      microBatch(m);
    // Under way while something else runs.
    add(kAllReduce, "all-reduce w", {w.gradient, w.gradient}, {0, GVRT_F32, 0, kWeight, 5});
    launch(kZero, "zero x", {x}, kWeight);
    add(kWait, "wait for all-reduce", {w.gradient}, {5});
    add(kAllReduce, "all-reduce b", {b.gradient, b.gradient}, {0, GVRT_F32, 0, kRows, -1});
    if (word == "fault")
      launch(kBreak, "break here", {x}, 1);
    writeManifest();
  }

  void writeManifest() {
    std::string mesh = devices > 1 ? std::to_string(devices) : "", axis = devices > 1 ? "0" : "";
    std::string rows = "[" + std::to_string(kMicroBatches) + ", -2], ";
    if (devices > 1)
      rows += "[" + mesh + ", 0], ";
    rows += "[" + std::to_string(kBatch / kMicroBatches / devices) + ", -1]";
    manifest << "{\"format\": 1, \"device\": \"cuda\", \"stage\": " << stage << ", \"stages\": " << stages
             << ", \"devices\": " << devices << ", \"mesh\": [" << mesh
             << "], \"schedule\": \"gpipe\", \"global_batch\": " << kBatch << ", \"micro_batches\": " << kMicroBatches
             << ", \"sequence\": " << kSequence << ", \"vocabulary\": " << kVocabulary
             << ", \"model\": \"toy\", \"arena_bytes\": " << (word == "huge" ? int64_t(1) << 50 : arena)
             << ", \"workspace\": {\"offset\": " << workspace << ", \"bytes\": " << (1 << 20) << "}, \"parameters\": ["
             << parameters.str() << "], \"inputs\": [{\"name\": \"input_ids\", \"offset\": " << ids
             << ", \"bytes_per_micro_batch\": " << bytesPerMicroBatch << ", \"shape\": [" << kBatch << ", " << kSequence
             << "], \"placement\": [[" << rows << "], [[" << kSequence << ", -1]]]}], \"losses\": [";
    if (stage == stages - 1)
      manifest << "{\"offset\": " << loss << ", \"partial_axes\": []}";
    manifest << "], \"groups\": [{\"axes\": [" << axis << "]}], \"names\": [";
    for (size_t i = 0; i < names.size(); ++i)
      manifest << (i ? ", " : "") << "\"" << names[i] << "\"";
    manifest << "], \"units\": []}";
  }

  int64_t stages, devices, stage, arena = 0, bytesPerMicroBatch = 0;
  std::string word;
  int64_t ids = 0, x = 0, y = 0, loss = 0, workspace = 0;
  Parameter w{0, 0, 0}, b{0, 0, 0};
  std::vector<int64_t> timetable;
  std::vector<std::string> names;
  std::ostringstream manifest, parameters;
  std::string text;
};

} // namespace

int main(int argc, char **argv) {
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  int64_t stages = 1, devices = 1;
  std::string word;
  std::ifstream(self.parent_path() / "plan.txt") >> stages >> devices >> word;
  Stage stage(stages, devices, word, self.filename().string().back() - '0');
  gvrt_program program = stage.program();
  return gvrt_main(argc, argv, &program);
}
