// The inner interface of the importer: a program arrives as calls of ATen operators on `Value`s, by
// whatever door (TorchScript today), and leaves as one function of the graph dialect.
#ifndef GALVATRON_IMPORT_PROGRAM_IMPORTER_H
#define GALVATRON_IMPORT_PROGRAM_IMPORTER_H

#include "Emitter.h"
#include "lib/Import/Expression/Value.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

namespace galvatron::importer {

/// Where an op comes from, for locations and messages.
struct Source {
  std::string path; // of the module, e.g. "model.layers.0.mlp"
  std::string file; // Python file, may be empty
  unsigned line = 0;

  std::string describe() const;
};

/// An argument and its name in the operator's schema.
struct Argument {
  llvm::StringRef name;
  Value value;
};

class Importer;

/// One operator call as a rule sees it. Accessors throw ImportError on a missing or foreign argument;
/// those with a fallback return it where the argument is absent or None.
class Call {
public:
  Call(Importer &importer, llvm::StringRef op, llvm::ArrayRef<Argument> arguments, const Source &source);

  Importer &importer;
  Emitter &emitter;
  ExpressionContext &expressions;
  llvm::StringRef op; // "aten::add"
  llvm::ArrayRef<Argument> arguments;
  const Source &source;

  const Value *find(llvm::StringRef name) const; // null when absent or None
  bool has(llvm::StringRef name) const { return find(name); }
  const Value &value(llvm::StringRef name) const;
  Tensor tensor(llvm::StringRef name) const;
  /// A number becomes a rank-0 tensor.
  Tensor tensorOrNumber(const Value &value) const;
  std::vector<Tensor> tensors(llvm::StringRef name) const;
  int64_t integer(llvm::StringRef name) const;
  int64_t integer(llvm::StringRef name, int64_t fallback) const;
  double number(llvm::StringRef name) const;
  double number(llvm::StringRef name, double fallback) const;
  bool flag(llvm::StringRef name, bool fallback) const;
  /// A list of integers, or one integer.
  Shape integers(llvm::StringRef name) const;
  /// A dimension of a tensor of that rank, counted from the front.
  int64_t dim(llvm::StringRef name, int64_t rank) const;
  /// A list of them, or one; each once.
  Shape dims(llvm::StringRef name, int64_t rank) const;
  /// The element type named by a ScalarType argument.
  ElementType elementType(llvm::StringRef name, ElementType fallback) const;
};

/// Returns the operator's results.
using Rule = llvm::SmallVector<Value, 1> (*)(Call &);

class RuleTable {
public:
  enum Kind { Copy, View };
  void add(llvm::StringRef op, Rule rule, Kind kind = Copy) { rules[op] = {rule, kind}; }
  struct Entry {
    Rule rule = nullptr;
    Kind kind = Copy;
  };
  const Entry *find(llvm::StringRef op) const;

private:
  llvm::StringMap<Entry> rules;
};

void addActivationRules(RuleTable &table);
void addAttentionRules(RuleTable &table);
void addConvolutionRules(RuleTable &table);
void addCreationRules(RuleTable &table);
void addElementwiseRules(RuleTable &table);
void addFunctionRules(RuleTable &table);
void addIndexingRules(RuleTable &table);
void addLossRules(RuleTable &table);
void addNormalizationRules(RuleTable &table);
void addProductRules(RuleTable &table);
void addReductionRules(RuleTable &table);
void addJoiningRules(RuleTable &table);
void addScalarRules(RuleTable &table);
void addScatterRules(RuleTable &table);
void addStatisticsRules(RuleTable &table);
void addViewRules(RuleTable &table);

class Importer {
public:
  /// An argument of the function: int64 or float32, batch first.
  struct Input {
    std::string name;
    ElementType type;
    Shape shape;
  };
  /// Tokens with labels, [batch, seq]. `isPacked`: rows hold several documents, so the function has positions and
  /// documents too.
  Importer(mlir::MLIRContext &context, int64_t batch, int64_t seq, bool isPacked = false);
  /// Other data. `seq` is the length of its tokens, 1 where it has none.
  Importer(mlir::MLIRContext &context, int64_t batch, int64_t seq, llvm::ArrayRef<Input> inputs);

  /// The function's arguments: of `graph::kInputNames`, or as they were given.
  Value input(unsigned number);
  static constexpr unsigned kPositions = 2, kDocuments = 3;
  /// Makes the label of a position the window's next token; before any call.
  void moveLabels();
  /// `names`: the canonical one first.
  Value parameter(llvm::ArrayRef<std::string> names, ShapeRef shape, ElementType type, mlir::DictionaryAttr init,
                  bool frozen);
  llvm::SmallVector<Value, 1> call(llvm::StringRef op, llvm::ArrayRef<Argument> arguments, const Source &source);
  /// Ends the function with the loss and removes what it does not need.
  mlir::OwningOpRef<mlir::ModuleOp> finish(const Value &loss);

  mlir::ModuleOp module() { return *theModule; }
  mlir::MLIRContext &context;
  ExpressionContext expressions;
  mlir::OpBuilder builder;
  Emitter emitter{builder, expressions};

  /// The tensor as an IR value.
  mlir::Value force(const Tensor &x);
  Tensor convert(const Tensor &x, ElementType type);
  Tensor expand(const Tensor &x, ShapeRef shape);
  Tensor reshape(const Tensor &x, ShapeRef shape);
  Tensor transpose(const Tensor &x, llvm::ArrayRef<int64_t> permutation);
  /// extents `begin[d] <= index < begin[d] + shape[d]`.
  Tensor slice(const Tensor &x, ShapeRef begin, ShapeRef shape);
  Tensor concat(llvm::ArrayRef<Tensor> parts, int64_t dim);
  /// Broadcasts, converts operands to `operandType` (not Select's condition) and applies `op`.
  Tensor elementwise(Operator op, llvm::ArrayRef<Tensor> operands, ElementType operandType, ElementType type);
  /// The current tensor of a cell; refuses one that a write has outdated in ways that are not tracked.
  Tensor read(const Cell &cell) const;

  /// Identifies a dropout in the step, so that two of the same operand stay two; `form-layers` numbers them anew.
  int64_t dropoutId(const Source &source);
  /// What a log_softmax was taken of, and its dimension, for losses that start from it.
  llvm::DenseMap<mlir::Value, std::pair<mlir::Value, int64_t>> logSoftmaxSources;
  int64_t batch, seq;
  bool isPacked;
  /// Data may say of any label that it does not count.
  bool areLabelsCounted = false;
  /// Of the trace, for messages; 0 when not known.
  int64_t exampleBatch = 0, exampleSeq = 0;
  /// Of `finish`.
  std::vector<std::string> warnings;

private:
  void addRules();
  void createStep(llvm::ArrayRef<Input> inputs);
  llvm::SmallVector<Value, 1> callInPlace(llvm::StringRef op, const RuleTable::Entry &entry, Call &call);
  void makeView(const RuleTable::Entry &entry, Call &call, const Value &results);
  void write(Cell &cell, const Tensor &content, int time);
  mlir::Location location(const Source &source);

  mlir::OwningOpRef<mlir::ModuleOp> theModule;
  RuleTable rules;
  llvm::StringMap<int64_t> dropouts; // per module path
  llvm::SmallVector<ElementType> inputTypes;
  /// What `moveLabels` made, or null.
  mlir::Value movedLabels;
};

/// The element type that operators with these operands compute in: tensors with dimensions first, then
/// rank-0 tensors and numbers where they are of a higher kind.
ElementType promote(llvm::ArrayRef<Value> operands, const Importer &importer);

/// The shape that operands broadcast to. Throws ImportError if they do not.
Shape commonShape(llvm::ArrayRef<ShapeRef> shapes);

/// An integer argument, also where it arrives as a rank-0 tensor.
Integer asInteger(const Value &value, const Importer &importer, llvm::StringRef name);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_PROGRAM_IMPORTER_H
