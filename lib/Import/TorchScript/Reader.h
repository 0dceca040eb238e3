// Walks a TorchScript module and feeds its operators to an Importer.
#ifndef GALVATRON_IMPORT_TORCHSCRIPT_READER_H
#define GALVATRON_IMPORT_TORCHSCRIPT_READER_H

#include "Parameters.h"

#include "lib/Import/Program/Importer.h"

namespace galvatron::importer {

/// Calls of submodules are followed one by one, never inlined: TorchScript keeps the module hierarchy
/// only as attributes and method calls, and the path of attributes is the name of a layer.
class Reader {
public:
  Reader(Importer &importer, const Parameters &parameters) : importer(importer), parameters(parameters) {}

  /// Whether forward takes position_ids as well: rows hold several documents. Throws ImportError where its inputs are
  /// others.
  static bool isPacked(const torch::jit::Module &module);
  /// Runs `forward` on the importer's inputs, of which it takes `count` (of packed rows the tokens, the labels and the
  /// positions), and returns its result, the loss. Every parameter is in the program then, whether something reads it
  /// or not.
  Value run(const torch::jit::Module &module, size_t count);
  /// Of input_ids, labels and perhaps position_ids.
  static size_t numTokenInputs(const torch::jit::Module &module) { return isPacked(module) ? 3 : 2; }
  /// Whether the program has the buffer's values.
  bool reads(const Buffer &buffer) const { return buffers.count(buffer.path); }

  /// What the exporter asks of sizes: that Python would have computed the same number, or taken the same
  /// branch, as for its example.
  struct Check {
    std::string otherwise; // the message where it does not hold
    bool holds;
  };
  std::vector<Check> checks; // after `run`, in the trace's order

private:
  struct Submodule {
    torch::jit::Object object;
    /// From the root: what its parameters are called.
    std::string path;
  };
  /// Modules travel as arguments too: a trace names a module that several blocks share by one of its
  /// places, and hands it to the others.
  using Slot = std::variant<Value, Submodule>;
  /// One graph under evaluation. `path` is where its ops happen: the module's own path, or that of the
  /// caller and the module's name where the module came from elsewhere.
  struct Frame {
    std::string path;
    std::unordered_map<const torch::jit::Value *, Slot> slots;

    Value &operator[](const torch::jit::Value *value) { return slots[value].emplace<Value>(); }
  };

  std::vector<Value> callMethod(const Submodule &target, const std::string &method, llvm::ArrayRef<Slot> arguments,
                                const std::string &place);
  const Submodule &moduleOf(const torch::jit::Value *value, const Frame &frame) const;
  void runBlock(const torch::jit::Block *block, Frame &frame);
  void runNode(const torch::jit::Node *node, Frame &frame);
  void runConstant(const torch::jit::Node *node, Frame &frame);
  void runOperator(const torch::jit::Node *node, Frame &frame);
  void getAttribute(const torch::jit::Node *node, Frame &frame);
  void runIf(const torch::jit::Node *node, Frame &frame);
  Value runCheck(const List &arguments);
  void runLoop(const torch::jit::Node *node, Frame &frame);
  const Value &valueOf(const torch::jit::Value *value, const Frame &frame) const;
  Value constant(const c10::IValue &value);
  Value tensorConstant(const at::Tensor &tensor);
  Value attribute(const c10::IValue &value, const std::string &path);
  const Value &emit(const Parameter &parameter);
  Source sourceOf(const torch::jit::Node *node, const std::string &path) const;

  Importer &importer;
  const Parameters &parameters;
  std::unordered_map<const Parameter *, Value> emittedParameters;
  std::unordered_map<std::string, Value> buffers;
  /// Of the program so far: a few lines can call and loop without end.
  int64_t numNodes = 0, numIterations = 0, depth = 0;
};

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_TORCHSCRIPT_READER_H
