// All devices of one pipeline stage walking their timetable. Internal to lib/Reference; TimetableRun has all stages.
//
// The devices walk in step, as bodies with their collectives do. What the device library would do later is done as late
// as it may be: what is received or reduced with a handle is poison until its wait, a send's buffer is read when its
// receiver comes for it. An entry that touches what is under way is an error, as is one that reads what is not there.
#ifndef GALVATRON_REFERENCE_STAGERUN_H
#define GALVATRON_REFERENCE_STAGERUN_H

#include "Arena.h"
#include "Interpreter.h"

#include "galvatron/Reference/Evaluator.h"
#include "galvatron/Schedule/Timetable.h"

#include "mlir/IR/SymbolTable.h"

#include <functional>
#include <map>

namespace galvatron::reference {

class StageRun;

/// What stages have begun together and not ended.
struct Exchange {
  /// A value that waits for its receiver where it lies.
  struct Sent {
    Channel channel;
    const StageRun *sender;
    ByteRange range;
    bool isReceived = false;
  };
  /// A sum over stages: what each of them brings, by stage.
  using Terms = std::map<int64_t, DeviceTensors>;

  std::map<std::pair<int64_t, int64_t>, std::vector<Sent>> sent; // by stages, from and to, in order
  std::map<std::pair<int64_t, int64_t>, size_t> received;
  std::map<std::vector<int64_t>, std::vector<Terms>> sums; // by the stages that join, in order
};

class StageRun {
public:
  /// `bodies`: the module that has the `dist.body`s which entries name.
  StageRun(const Timetable &table, mlir::ModuleOp bodies, const Machine &machine, Exchange &exchange, bool exact);

  const Timetable &getTable() const { return table; }

  /// Forgets all but parameters, moments and copies, and puts data into the inputs' buffers.
  void beginStep(const NamedTensors &inputs);
  /// Goes on as far as it gets; whether it moved.
  mlir::FailureOr<bool> advance(Interpreter &interpreter);
  bool isDone() const { return next == table.entries.size(); }
  const TimetableEntry &current() const { return table.entries[next]; }
  /// That nothing is under way at the end.
  mlir::LogicalResult finish();

  /// Whole tensors in a buffer of f32, from its beginning; `reader`: who asks, for messages. Fails where nothing lies.
  mlir::FailureOr<DeviceTensors> readBuffer(int buffer, llvm::ArrayRef<int64_t> shape, const std::string &reader);
  /// The same of one device, from the element `first` on.
  mlir::LogicalResult readElements(int64_t device, int buffer, int64_t first, llvm::MutableArrayRef<double> values,
                                   const std::string &reader);
  void writeElements(int64_t device, int buffer, int64_t first, unsigned width, llvm::ArrayRef<double> values);
  /// The elements of a parameter, as one device's tensor has them, whose state the device keeps.
  struct Held {
    int64_t begin, end;
    /// Where the first of them lies in a buffer that has the whole bucket, or only this device's piece.
    int64_t inWhole, inPiece;
  };
  Held heldOf(const StageParameter &parameter, int64_t device) const;
  mlir::Type elementOf(gvrt_type type);
  Arena::Lanes copy(int64_t device, ByteRange range) const { return arenas[device].copy(range); }

private:
  /// Tries to end what an entry began; false: other stages are not that far.
  using Attempt = std::function<mlir::FailureOr<bool>()>;
  struct Occupied {
    ByteRange range;
    bool isWritten; ///< else only read
  };
  struct UnderWay {
    std::string name;
    llvm::SmallVector<Occupied, 2> ranges;
    Attempt end;
  };
  /// What an entry reads or writes.
  struct Touch {
    BufferReference reference;
    bool isWritten;
    int64_t bytes = 0; ///< 0: up to the buffer's end
  };

  static std::vector<Touch> touchesOf(const Action &action);
  ByteRange rangeOf(BufferReference reference, int64_t bytes = 0) const;
  void poison(ByteRange range);
  mlir::LogicalResult forget(llvm::ArrayRef<int> buffers, llvm::StringRef when);
  mlir::LogicalResult checkTouched();
  mlir::InFlightDiagnostic emitPoisoned(int buffer, int64_t byte, int64_t device, const std::string &reader);
  mlir::FailureOr<DeviceTensors> read(BufferReference reference, mlir::Type element, llvm::ArrayRef<int64_t> shape);
  mlir::LogicalResult write(BufferReference reference, mlir::Type element, const DeviceTensors &values);

  /// Begins the entry at hand; what is left to wait for, or null.
  mlir::FailureOr<Attempt> begin(Interpreter &interpreter);
  mlir::LogicalResult compute(const Compute &compute, Interpreter &interpreter);
  /// Where a body finds its arguments and leaves its results: of parameters that lie together it knows the first alone.
  struct Places {
    std::vector<BufferReference> reads, writes;
  };
  Places placesOf(const Compute &compute, dist::BodyOp body);
  mlir::LogicalResult accumulate(const Accumulate &sum);
  /// a += b, but what nobody has written stays poison: the padding between gradients travels along.
  static void addUnlessPoisoned(Tensor &a, const Tensor &b);
  mlir::FailureOr<Attempt> reduce(const AllReduce &reduce);
  mlir::FailureOr<Attempt> scatter(const ReduceScatter &scatter);
  mlir::FailureOr<Attempt> gather(const AllGather &gather);
  mlir::FailureOr<Attempt> send(const Send &send);
  mlir::FailureOr<Attempt> receive(const Receive &receive);
  mlir::FailureOr<Attempt> wait(const Wait &wait);
  /// `values` appear in the range now, or at the wait of the handle.
  /// `read`: what is read until then.
  mlir::FailureOr<Attempt> deliver(std::optional<int64_t> handle, ByteRange range, Attempt end,
                                   std::optional<ByteRange> read = std::nullopt);

  const Timetable &table;
  mlir::ModuleOp bodies;
  mlir::SymbolTable symbols;
  const Machine &machine;
  Exchange &exchange;
  bool exact;
  llvm::StringMap<dist::LayerOp> layers; // by the names of their bodies
  std::vector<Arena> arenas;             // by device
  /// Buffers that do not live between steps, by the entry of their first and of their last use.
  std::vector<std::vector<int>> born, dead;
  std::map<int64_t, UnderWay> underWay; // by handle
  size_t next = 0;
  /// Of the entry at `next`, where it has begun.
  std::optional<Attempt> pending;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_STAGERUN_H
