// Of 500 shapes drawn: the order that the search prices is the one that is printed, proved and emitted.
#include "Timetables.h"

#include "galvatron/Search/Model/Timetable.h"

#include "llvm/ADT/StringExtras.h"

#include <random>

using namespace galvatron;

namespace {

/// A layer a part: an embedding, blocks, a head; the only part of one stage is followed by the head.
std::string program(const search::PipelineShape &shape) {
  std::string text = R"(
#x = #dist.placement<[4]>
#s = #dist.placement<[]>
module attributes {plan.pipeline = #plan.pipeline<stages = )" +
                     std::to_string(shape.stages) +
                     ", devices = 1, micro_batches = " + std::to_string(shape.microBatches) + ", schedule = \"" +
                     std::string(search::scheduleName(shape.schedule)) + "\"" +
                     (shape.virtualStages > 1 ? ", virtual_stages = " + std::to_string(shape.virtualStages) : "") +
                     R"(>} {
  exec.function @embed.forward(%ids: memref<4xi64>, %t: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @embed.backward(%dy: memref<4xf32>, %ids: memref<4xi64>, %t: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @embed {forward = @embed.forward, backward = @embed.backward, inputs = [#x], outputs = [#x], input_gradients = [unit], output_gradients = [#x], homes = [#x], gradients = [#x], num_saved = 0 : i64}
  exec.function @block.forward(%x: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @block.backward(%dy: memref<4xf32>, %x: memref<4xf32>, %w: memref<4xf32>, %dx: memref<4xf32>, %dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @block {forward = @block.forward, backward = @block.backward, inputs = [#x], outputs = [#x], input_gradients = [#x], output_gradients = [#x], homes = [#x], gradients = [#x], num_saved = 0 : i64}
  exec.function @head.forward(%x: memref<4xf32>, %t: memref<4xf32>, %y: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @head.backward(%dy: memref<f32>, %x: memref<4xf32>, %t: memref<4xf32>, %dx: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @head {forward = @head.forward, backward = @head.backward, inputs = [#x], outputs = [#s], input_gradients = [#x], output_gradients = [#s], homes = [#x], gradients = [#x], num_saved = 0 : i64}
)";
  for (int stage = 0; stage < shape.stages; ++stage) {
    text += "  dist.stage @stage" + std::to_string(stage) + " index " + std::to_string(stage) + " {\n";
    for (int chunk = 0; chunk < shape.virtualStages; ++chunk) {
      int part = shape.partOf(stage, chunk), last = shape.parts() - 1;
      auto peer = [&](int other) { return std::to_string(shape.stageOf(other)); };
      std::string in = "%in" + std::to_string(part), out = "%out" + std::to_string(part), name = std::to_string(part);
      std::string of = chunk ? " {plan.chunk = " + std::to_string(chunk) + " : i64}" : "";
      std::string block = " = graph.call @block(" + in + ") parameters [\"w" + name + "\"] path \"part" + name + "\"" +
                          of + " : (tensor<4xf32, #x>) -> tensor<4xf32, #x>\n";
      if (part == 0)
        text += "    %ids = dist.input \"ids\" : tensor<4xi64, #x>\n    " + out +
                " = graph.call @embed(%ids) parameters [\"t\"] path \"part0\"" + of +
                " : (tensor<4xi64, #x>) -> tensor<4xf32, #x>\n";
      else
        text += "    " + in + " = dist.receive from " + peer(part - 1) + " tag " + std::to_string(part - 1) + of +
                " : tensor<4xf32, #x>\n    " + out + block;
      if (part < last)
        text += "    dist.send " + out + " to " + peer(part + 1) + " tag " + name + of + " : tensor<4xf32, #x>\n";
      else
        text += "    %loss = graph.call @head(" + out + ") parameters [\"h\"] path \"head\"" + of +
                " : (tensor<4xf32, #x>) -> tensor<f32, #s>\n    dist.loss %loss" + of + " : tensor<f32, #s>\n";
    }
    text += "  }\n";
  }
  return text + "}\n";
}

/// "F3.1", as a stage's order is written.
std::string wordOf(const search::Instruction &entry) {
  return "FBW"[int(entry.phase)] + std::to_string(entry.microBatch) +
         (entry.chunk ? "." + std::to_string(entry.chunk) : "");
}

class OrdersTest : public TimetablesTest {
protected:
  void schedule(const search::PipelineShape &shape) {
    parsed.emplace(program(shape));
    ASSERT_TRUE(parsed->run("galvatron-schedule-microbatches"));
    collect();
  }

  std::string printed(int stage) {
    std::string text;
    llvm::raw_string_ostream out(text);
    for (auto op : parsed->module->getOps<dist::StageOp>())
      if (int(op.getIndex()) == stage)
        mlir::Attribute(op.getOrderAttr()).print(out);
    return text;
  }

  /// What the stage's program does, by the bodies of parts that it calls.
  std::vector<std::string> emitted(const search::PipelineShape &shape, int stage) {
    std::vector<std::string> words;
    for (const TimetableEntry &entry : timetables[stage].entries) {
      llvm::StringRef name = entry.name;
      bool isForward = name.consume_front("forward part");
      if (!isForward && !name.consume_front("backward part"))
        continue;
      int part = -1, microBatch = -1;
      EXPECT_FALSE(name.consumeInteger(10, part)) << entry.name;
      llvm::StringRef number = name.rsplit(' ').second;
      EXPECT_FALSE(number.getAsInteger(10, microBatch)) << entry.name;
      words.push_back(wordOf(
          {isForward ? search::Computation::Forward : search::Computation::Backward, shape.chunkOf(part), microBatch}));
    }
    return words;
  }
};

search::PipelineShape draw(std::mt19937 &random) {
  auto upTo = [&](int most) { return 1 + int(random() % unsigned(most)); };
  int stages = upTo(6);
  switch (random() % 3) {
  case 0:
    return {search::Schedule::GPipe, stages, 1, upTo(12)};
  case 1:
    return {search::Schedule::OneFOneB, stages, 1, upTo(12)};
  default:
    stages = std::max(stages, 2);
    return {search::Schedule::Interleaved, stages, 1 + upTo(3), stages * upTo(3)};
  }
}

TEST_F(OrdersTest, PricedPrintedProvedAndEmittedAreOne) {
  std::mt19937 random(16);
  for (int shapes = 0; shapes < 500; ++shapes) {
    search::PipelineShape shape = draw(random);
    std::string name = std::string(search::scheduleName(shape.schedule)) + " of " + std::to_string(shape.stages) +
                       " x " + std::to_string(shape.virtualStages) + ", " + std::to_string(shape.microBatches);
    search::Timetable priced(shape);
    schedule(shape);
    if (HasFatalFailure())
      FAIL() << name;
    for (int stage = 0; stage < shape.stages; ++stage) {
      std::vector<std::string> words;
      for (const search::Instruction &entry : priced.entries(stage))
        words.push_back(wordOf(entry));
      EXPECT_EQ(printed(stage), "#dist.order<" + llvm::join(words, ", ") + ">") << name;
      EXPECT_EQ(emitted(shape, stage), words) << name << ", stage " << stage;
    }
    EXPECT_EQ(complaint(), "") << name; // the proof
    if (HasFailure())
      return;
  }
}

} // namespace
