// The timetables of a right program, to be changed in one place: what the proof says to that.
#ifndef GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H
#define GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H

#include "Timetables.h"

#include "mlir/AsmParser/AsmParser.h"

namespace galvatron {

/// Two stages of four devices, axis 0 cuts the batch, axis 1 the sequence: gradients of the norm's weight are partial
/// on both, as under sequence parallelism. The table is tied; the loss is a mean over the labels of the whole batch.
inline const char *const kTwoStages = R"(
#x = #dist.placement<[4]>
#c = #dist.placement<[]>
#s = #dist.placement<[] partial [sum@g0]>
#g = #dist.placement<[4] partial [sum@g0]>
#n = #dist.placement<[4] partial [sum@g0, sum@g1]>
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 4, micro_batches = 2, schedule = "1f1b">} {
  exec.function @embed.forward(%ids: memref<4xi64>, %t: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @embed.backward(%dy: memref<4xf32>, %ids: memref<4xi64>, %t: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64, exec.adds = array<i64: 0>} {
    exec.return
  }
  dist.layer @embed {forward = @embed.forward, backward = @embed.backward, inputs = [#x], outputs = [#x], input_gradients = [unit], output_gradients = [#x], homes = [#x], gradients = [#g], num_saved = 0 : i64}
  exec.function @block.forward(%x: memref<4xf32>, %n: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %s: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 64 : i64} {
    exec.return
  }
  exec.function @block.backward(%dy: memref<4xf32>, %x: memref<4xf32>, %n: memref<4xf32>, %w: memref<4xf32>, %s: memref<4xf32>, %dx: memref<4xf32>, %dn: memref<4xf32>, %dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 64 : i64} {
    memref.copy %x, %dx : memref<4xf32> to memref<4xf32>
    memref.copy %s, %dn : memref<4xf32> to memref<4xf32>
    memref.copy %w, %dw : memref<4xf32> to memref<4xf32>
    exec.return
  }
  dist.layer @block {forward = @block.forward, backward = @block.backward, inputs = [#x], outputs = [#x], input_gradients = [#x], output_gradients = [#x], homes = [#x, #x], gradients = [#n, #g], num_saved = 1 : i64}
  exec.function @labels.forward(%l: memref<4xi64>, %y: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @labels {forward = @labels.forward, inputs = [#x], outputs = [#s], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
  exec.function @head.forward(%x: memref<4xf32>, %l: memref<4xi64>, %c: memref<f32>, %t: memref<4xf32>, %y: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @head.backward(%dy: memref<f32>, %x: memref<4xf32>, %l: memref<4xi64>, %c: memref<f32>, %t: memref<4xf32>, %dx: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    memref.copy %x, %dx : memref<4xf32> to memref<4xf32>
    exec.return
  }
  dist.layer @head {forward = @head.forward, backward = @head.backward, inputs = [#x, #x, #c], outputs = [#s], input_gradients = [#x, unit, unit], output_gradients = [#s], homes = [#x], gradients = [#g], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0, F1, B0, B1> {
    %ids = dist.input "input_ids" : tensor<4xi64, #x>
    %0 = graph.call @embed(%ids) parameters ["table"] path "embed" {dist.layer_index = 0 : i64} : (tensor<4xi64, #x>) -> tensor<4xf32, #x>
    %1 = graph.call @block(%0) parameters ["n0", "w0"] path "block0" {dist.layer_index = 1 : i64} : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    dist.send %1 to 1 tag 0 : tensor<4xf32, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0, F1, B1> {
    %l = dist.input "labels" : tensor<4xi64, #x>
    %c = graph.total @labels(%l) : (tensor<4xi64, #x>) -> tensor<f32, #c>
    %0 = dist.receive from 0 tag 0 : tensor<4xf32, #x>
    %1 = graph.call @block(%0) parameters ["n1", "w1"] path "block1" {dist.layer_index = 2 : i64} : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %2 = graph.call @head(%1, %l, %c) parameters ["table"] path "head" {dist.layer_index = 3 : i64} : (tensor<4xf32, #x>, tensor<4xi64, #x>, tensor<f32, #c>) -> tensor<f32, #s>
    dist.loss %2 : tensor<f32, #s>
  }
}
)";

class MutatedTimetables : public TimetablesTest {
protected:
  void erase(size_t stage, const std::string &name) {
    timetables[stage].entries.erase(timetables[stage].entries.begin() + indexOf(stage, name));
  }

  /// Moves an entry before another, or to the end.
  void move(size_t stage, const std::string &name, const std::string &before = "") {
    TimetableEntry entry = find(stage, name);
    erase(stage, name);
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    entries.insert(before.empty() ? entries.end() : entries.begin() + indexOf(stage, before), entry);
  }

  StageParameter &parameter(size_t stage, const std::string &name) {
    for (StageParameter &parameter : timetables[stage].parameters)
      if (parameter.names.front() == name)
        return parameter;
    ADD_FAILURE() << "no parameter " << name;
    return timetables[stage].parameters.front();
  }

  Buffer &buffer(size_t stage, BufferReference reference) { return timetables[stage].buffers[reference.buffer]; }

  /// The layer's attribute, as some text.
  void set(const std::string &layer, llvm::StringRef name, const std::string &text) {
    mlir::SymbolTable(*parsed->module)
        .lookup<dist::LayerOp>(layer)
        ->setAttr(name, mlir::parseAttribute(text, parsed->context.get()));
  }
};

} // namespace galvatron

#endif // GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H
