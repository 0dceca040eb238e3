// The proof that the timetables of all stages compute what the program says: `--verify-timetable`.
//
// It shares nothing with what builds timetables. It walks each list once and keeps for every byte of the arena who
// wrote what there, of which value and micro-batch, by the offsets that were planned; what an entry should find follows
// from the stages (`dist.stage`), layers (`dist.layer`) and the types of bodies alone.
#ifndef GALVATRON_SCHEDULE_VERIFYTIMETABLE_H
#define GALVATRON_SCHEDULE_VERIFYTIMETABLE_H

#include "galvatron/Schedule/Timetable.h"

namespace galvatron {

/// What was proved, counted over all stages.
struct TimetableProof {
  int64_t stages = 0, entries = 0;
  /// Arguments of bodies, sends and sums that hold what the program says.
  int64_t reads = 0;
  /// Values that were received as they were sent.
  int64_t transfers = 0;
  /// Starts that are waited for once, with what is under way left alone until then.
  int64_t waits = 0;
  /// Gradients of parameters that are whole at the end, those of them that are summed over mesh axes, and over stages.
  int64_t gradients = 0, reducedOverAxes = 0, reducedOverStages = 0;
  /// Buffers that live between entries by right, each byte with one owner.
  int64_t owners = 0;
  /// Lists of states that ranks share (ZeRO), gathers of them, and reductions of gradients into pieces.
  int64_t lists = 0, gathers = 0, scatters = 0;
  /// Parameters of the model that the gradient norm and checkpoints count, each in one stage.
  int64_t counted = 0;
  /// Terms of the loss that are added up once, and sums over the whole batch that are whole before they are read.
  int64_t lossTerms = 0, totals = 0;
  /// Entries of evaluation, and reads of these.
  int64_t evaluationEntries = 0, evaluationReads = 0;
};

/// Proves, for the timetables of all stages of the module in order, after `planArena`:
///   - an entry reads what the program says: of its own micro-batch, of the one that writes it, saved by its own
///     forward;
///   - every gradient of a parameter has each of its terms once, is then summed over exactly the mesh axes on which it
///     is partial and over the stages that hold the parameter, each once, and is left alone afterwards;
///   - what is received, reduced or sent is left alone until its wait, and every start has one wait;
///   - every byte of parameters, moments, copies, gradients and data has one owner, and the gradient norm counts each
///     element once;
///   - of states that ranks share (ZeRO) each element is in one rank's piece, cut alike in all stages; pieces are
///     gathered after their update and before they are read, and gradients reduced into them once, over exactly the
///     mesh axes on which they are partial;
///   - every term of the loss is added once, and sums over the batch are whole before they are read;
///   - values are received in the order and size they are sent, stages issue the collectives of a communicator that
///     they share in one order, and an execution of all lists together ends, so that no stages wait for one another;
///   - evaluation, where there is one, does the same without gradients: it runs every forward and no backward, in the
///     same arena, with the same state at the same places.
/// Fails with an error on the module that names entry, buffer, value and mesh axes.
mlir::FailureOr<TimetableProof> verifyTimetables(mlir::ModuleOp module, llvm::ArrayRef<Timetable> timetables);

/// One line for each thing proved.
void printProof(const TimetableProof &proof, llvm::raw_ostream &out);

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_VERIFYTIMETABLE_H
