// How the proof names what it finds. See VerifyTimetable.h.
#include "StageProver.h"

using namespace mlir;
using namespace galvatron;

std::string StageProver::describe(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto call = dyn_cast<graph::CallOp>(op))
    return "output of " + call.getPath().str();
  if (auto receive = dyn_cast<dist::ReceiveOp>(op))
    return "value " + std::to_string(receive.getTag()) + " from stage " + std::to_string(receive.getStage());
  if (auto input = dyn_cast<dist::InputOp>(op))
    return input.getName().str();
  return cast<graph::TotalOp>(op).getCallee().str();
}

std::string StageProver::describe(const Content &content) const {
  using Kind = Content::Kind;
  std::string of = content.microBatch < 0 ? "" : " micro-batch " + std::to_string(content.microBatch);
  switch (content.kind) {
  case Kind::Nothing:
    return "nothing";
  case Kind::Value:
    return describe(Value::getFromOpaquePointer(content.what)) + of;
  case Kind::Saved:
    return "value " + std::to_string(content.index) + " saved by " +
           graph::CallOp::getFromOpaquePointer(content.what).getPath().str() + of;
  case Kind::Kept:
    return "value " + std::to_string(content.index) + " kept by the backward of " +
           graph::CallOp::getFromOpaquePointer(content.what).getPath().str() + of;
  case Kind::Parameter:
    return parameterName(content.index);
  case Kind::Copy:
    return "copy of " + parameterName(content.index);
  case Kind::FirstMoment:
    return "first moment of " + parameterName(content.index);
  case Kind::SecondMoment:
    return "second moment of " + parameterName(content.index);
  case Kind::ParameterPiece:
    return "this rank's piece of parameters of " + table.buckets[content.index].path;
  case Kind::CopyPiece:
    return "this rank's piece of the copy of " + table.buckets[content.index].path;
  case Kind::FirstMomentPiece:
    return "this rank's piece of first moments of " + table.buckets[content.index].path;
  case Kind::SecondMomentPiece:
    return "this rank's piece of second moments of " + table.buckets[content.index].path;
  case Kind::StaleParameters:
  case Kind::StaleCopies:
    return (content.kind == Kind::StaleCopies ? "the copy of " : "parameters of ") + table.buckets[content.index].path +
           " as the step before gathered them";
  case Kind::Gathered:
    return parameterName(content.index) + " as gathered";
  case Kind::GatheredCopy:
    return "copy of " + parameterName(content.index) + " as gathered";
  case Kind::Zero:
    return "zeros";
  case Kind::One:
    return "gradient of the loss";
  case Kind::TotalPart:
    return "part of " + graph::TotalOp::getFromOpaquePointer(content.what).getCallee().str() + of;
  case Kind::Sum:
    break;
  }
  const Sum &sum = sums[content.index];
  switch (sum.kind) {
  case Sum::Kind::ValueGradient:
    return "gradient of " + describe(Value::getFromOpaquePointer(sum.of)) + " micro-batch " +
           std::to_string(sum.microBatch);
  case Sum::Kind::ParameterGradient:
    return "gradient of " + parameterName(sum.index);
  case Sum::Kind::GradientPiece:
    return "this rank's piece of gradients of " + table.buckets[sum.index].path;
  case Sum::Kind::Loss:
    return "loss";
  case Sum::Kind::Total:
    return graph::TotalOp::getFromOpaquePointer(sum.of).getCallee().str();
  }
  llvm_unreachable("a kind of sum without words");
}

std::string StageProver::describe(const Term &term) const {
  auto name = useNames.find(term.first);
  return (name == useNames.end() ? "a term" : name->second) + " micro-batch " + std::to_string(term.second);
}

std::string StageProver::here() const {
  std::string entry = now < table.entries.size() ? "\"" + table.entries[now].name + "\"" : "the end of the step";
  return entry + " on stage " + std::to_string(table.stage);
}

std::string StageProver::writerOf(const Cell *cell) const {
  if (!cell)
    return "nothing";
  std::string what = cell->isWhole() ? describe(cell->content) : "a piece of " + describe(cell->content);
  return cell->writer < 0 ? what : what + ", written by \"" + table.entries[cell->writer].name + "\"";
}
