// Timetables as text, for people and tests. See Timetable.h.
#include "dialects/Plan/Plan.h"
#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Schedule/UnitTimes.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace galvatron;

//===--------------------------------------------------------------------===//
// The drawing
//===--------------------------------------------------------------------===//

static std::string wordOf(const dist::Instruction &instruction) {
  std::string word;
  llvm::raw_string_ostream(word) << instruction;
  return word;
}

/// One row a stage: its instructions, each as often as it takes units of time; `.` where it waits.
static void printOrders(ModuleOp module, llvm::raw_ostream &out) {
  UnitTimes times(module);
  size_t width = 1;
  std::vector<std::pair<int64_t, std::vector<std::string>>> rows;
  for (auto stage : module.getOps<dist::StageOp>()) {
    std::vector<std::string> cells;
    for (auto [index, instruction] : llvm::enumerate(stage.getOrder()->getInstructions())) {
      std::optional<int64_t> end = times.endOf(stage.getIndex(), index);
      if (!end)
        break;
      cells.resize(*end - times.durationOf(instruction), ".");
      cells.resize(*end, wordOf(instruction));
      width = std::max(width, cells.back().size());
    }
    rows.push_back({stage.getIndex(), std::move(cells)});
  }
  for (auto &[stage, cells] : rows) {
    out << "stage " << stage << " ";
    for (const std::string &cell : cells)
      out << " " << llvm::left_justify(cell, &cell == &cells.back() ? 0 : width);
    out << "\n";
  }
}

//===--------------------------------------------------------------------===//
// Entries
//===--------------------------------------------------------------------===//

namespace {

class StagePrinter {
public:
  StagePrinter(const Timetable &timetable, llvm::raw_ostream &out) : timetable(timetable), out(out) {}

  void print();

private:
  /// Each of what is under way has a column of its own, from its start to its wait.
  std::vector<std::string> drawBars();
  void printBuffer(BufferReference reference);
  void printBuffers(ArrayRef<BufferReference> references);
  void printHandle(std::optional<int64_t> handle) {
    if (handle)
      out << ", handle " << *handle;
  }

  void printAction(const Compute &compute);
  void printAction(const FillZero &fill);
  void printAction(const StartBackward &start) { printBuffer(start.gradient); }
  void printAction(const Accumulate &sum);
  void printAction(const AllReduce &reduce);
  void printAction(const ReduceScatter &scatter);
  void printAction(const AllGather &gather);
  void printGroup(int64_t group);
  void printAction(const Send &send);
  void printAction(const Receive &receive);
  void printAction(const Wait &wait);

  const Timetable &timetable;
  llvm::raw_ostream &out;
};

} // namespace

static StringRef kindOf(const Action &action) {
  static constexpr StringLiteral kKinds[] = {
      "", "zero", "one", "accumulate", "all_reduce", "reduce_scatter", "all_gather", "send", "receive", "wait"};
  static_assert(std::size(kKinds) == std::variant_size_v<Action>);
  if (auto *compute = std::get_if<Compute>(&action))
    return compute->kind == Compute::Kind::Forward ? "forward"
           : compute->kind == Compute::Kind::Total ? "total"
                                                   : "backward";
  if (auto *start = std::get_if<StartBackward>(&action); start && start->isScaled)
    return "loss_scale";
  return kKinds[action.index()];
}

std::vector<std::string> StagePrinter::drawBars() {
  std::vector<std::string> rows;
  std::vector<std::optional<int64_t>> columns; // the handle under way
  auto columnOf = [&](std::optional<int64_t> handle) {
    size_t column = llvm::find(columns, handle) - columns.begin();
    columns.resize(std::max(columns.size(), column + 1));
    return column;
  };
  for (const TimetableEntry &entry : timetable.entries) {
    std::optional<size_t> first, last;
    if (std::optional<int64_t> handle = startedHandle(entry.action))
      columns[*(first = columnOf(std::nullopt))] = handle;
    if (auto *wait = entry.getIf<Wait>())
      last = columnOf(wait->handle);
    std::string row;
    for (size_t column = 0; column < columns.size(); ++column)
      row += column == first ? "┌" : column == last ? "└" : columns[column] ? "│" : " ";
    if (last)
      columns[*last] = std::nullopt;
    rows.push_back(std::move(row));
  }
  // Rows drawn before the last column was needed; a bar is one column of several bytes.
  auto widthOf = [](StringRef row) { return llvm::count_if(row, [](char c) { return (c & 0xc0) != 0x80; }); };
  for (std::string &row : rows)
    row.append(columns.size() - widthOf(row), ' ');
  return rows;
}

void StagePrinter::printBuffer(BufferReference reference) {
  if (!reference) {
    out << "-";
    return;
  }
  const Buffer &buffer = timetable.buffers[reference.buffer];
  out << buffer.name << "@" << buffer.offset + reference.offset;
}

void StagePrinter::printBuffers(ArrayRef<BufferReference> references) {
  llvm::interleaveComma(references, out, [&](BufferReference reference) { printBuffer(reference); });
}

/// `+` before what is added to, and not written.
void StagePrinter::printAction(const Compute &compute) {
  out << "@" << compute.function << "(";
  printBuffers(compute.reads);
  out << ") -> (";
  size_t firstAdded = compute.writes.size() - compute.adds.size();
  for (auto [index, write] : llvm::enumerate(compute.writes)) {
    out << (index ? ", " : "") << (index >= firstAdded && compute.adds[index - firstAdded] ? "+" : "");
    printBuffer(write);
  }
  out << ")";
  if (compute.scratch) {
    out << " ";
    printBuffer(compute.scratch);
  }
}

void StagePrinter::printAction(const FillZero &fill) {
  printBuffer(fill.buffer);
  out << ", " << fill.bytes << " bytes";
}

void StagePrinter::printAction(const Accumulate &sum) {
  printBuffer(sum.addend);
  out << " -> +";
  printBuffer(sum.sum);
}

void StagePrinter::printAction(const AllReduce &reduce) {
  printBuffer(reduce.buffer);
  out << ", " << reduce.count * 4 << " bytes over ";
  printGroup(reduce.group);
  printHandle(reduce.handle);
}

void StagePrinter::printGroup(int64_t index) {
  const RankGroup &group = timetable.groups[index];
  bool isInStage = group.stages.empty();
  out << (isInStage ? "axes " : "stages ");
  llvm::interleaveComma(isInStage ? group.axes : group.stages, out);
}

void StagePrinter::printAction(const ReduceScatter &scatter) {
  printBuffer(scatter.from);
  out << " -> ";
  printBuffer(scatter.to);
  out << ", pieces of " << scatter.count * 4 << " bytes over ";
  printGroup(scatter.group);
  printHandle(scatter.handle);
}

/// One buffer where pieces are in place.
void StagePrinter::printAction(const AllGather &gather) {
  if (gather.piece) {
    printBuffer(gather.piece);
    out << " -> ";
  }
  printBuffer(gather.whole);
  out << ", pieces of " << gather.count * bytesOfElement(gather.type) << " bytes over ";
  printGroup(gather.group);
  printHandle(gather.handle);
}

static void printChannel(const Channel &channel, llvm::raw_ostream &out) {
  out << "stage " << channel.stage << (channel.lane == Lane::Gradient ? ", gradient of value " : ", value ")
      << channel.value << ", " << channel.bytes << " bytes";
}

void StagePrinter::printAction(const Send &send) {
  printBuffer(send.buffer);
  out << " to ";
  printChannel(send.channel, out);
  printHandle(send.handle);
}

void StagePrinter::printAction(const Receive &receive) {
  printBuffer(receive.buffer);
  out << " from ";
  printChannel(receive.channel, out);
  printHandle(receive.handle);
}

void StagePrinter::printAction(const Wait &wait) {
  printBuffer(wait.buffer);
  printHandle(wait.handle);
}

void StagePrinter::print() {
  out << "stage " << timetable.stage << ": " << timetable.arenaBytes << " bytes, " << timetable.entries.size()
      << " entries\n";
  std::vector<std::string> bars = drawBars();
  for (auto [index, entry] : llvm::enumerate(timetable.entries)) {
    StringRef kind = kindOf(entry.action), name = entry.name;
    if (name.consume_front(kind)) // "forward model.layers.0" need not say so twice
      name = name.ltrim();
    out << llvm::formatv("{0,5} {1} {2,-10} {3}: ", index, bars[index], kind, name);
    std::visit([&](const auto &action) { printAction(action); }, entry.action);
    out << "\n";
  }
}

static std::string count(int64_t number, StringRef what, StringRef plural) {
  return (llvm::Twine(number) + " " + (number == 1 ? what : plural)).str();
}

void galvatron::printTimetables(ModuleOp module, ArrayRef<Timetable> timetables, llvm::raw_ostream &out) {
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  out << plan::stringifySchedule(pipeline.getSchedule()) << ", " << count(pipeline.getStages(), "stage", "stages")
      << " x " << count(pipeline.getDevices(), "device", "devices") << ", "
      << count(pipeline.getMicroBatches(), "micro-batch", "micro-batches") << "\n";
  printOrders(module, out);
  for (const Timetable &timetable : timetables) {
    out << "\n";
    StagePrinter(timetable, out).print();
  }
}
