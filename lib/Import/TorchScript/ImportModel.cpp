// From a file to two files: loading, reading, writing.
#include "galvatron/Import/Import.h"

#include "Archive.h"
#include "GivenWeights.h"
#include "Reader.h"

#include "dialects/Graph/ConfigAttr.h"
#include "dialects/Graph/GraphDialect.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Pipelines/Places.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/thread.h"

#include "llvm/ADT/StringExtras.h"

#include <filesystem>

using namespace galvatron;
using namespace galvatron::importer;
namespace fs = std::filesystem;

/// The first sentence of an exception's text.
static std::string firstSentence(const char *text) {
  std::string line(text);
  line = line.substr(0, line.find('\n'));
  return line.substr(0, line.find(". "));
}

/// What a checkpoint holds and no layer has as a parameter; `read` where the program was made with the buffer's values.
static void describeBuffers(mlir::ModuleOp program, const Reader &reader, llvm::ArrayRef<Buffer> buffers) {
  mlir::Builder builder(program.getContext());
  llvm::SmallVector<mlir::Attribute> entries;
  for (const Buffer &buffer : buffers) {
    mlir::NamedAttrList entry;
    entry.append("name", builder.getStringAttr(buffer.name));
    entry.append("dtype", builder.getStringAttr(safetensors::name(buffer.type())));
    entry.append("shape", builder.getDenseI64ArrayAttr(
                              llvm::ArrayRef<int64_t>(buffer.tensor.sizes().data(), buffer.tensor.dim())));
    entry.append("buffer", builder.getUnitAttr());
    if (reader.reads(buffer))
      entry.append("read", builder.getUnitAttr());
    entries.push_back(entry.getDictionary(program.getContext()));
  }
  if (!entries.empty())
    program->setAttr(graph::kCarriedAttr, builder.getArrayAttr(entries));
}

/// The sizes of an import.
struct Sizes {
  int64_t batch, seq;
  /// Of other data than tokens.
  std::vector<Importer::Input> inputs;

  /// The size that a bound is about.
  int64_t of(const Bound &bound) const {
    if (bound.dimension == "batch" || bound.dimension == "seq")
      return bound.dimension == "batch" ? batch : seq;
    auto [name, dim] = llvm::StringRef(bound.dimension).rtrim(']').split('[');
    size_t number = 0;
    for (const Importer::Input &input : inputs)
      if (input.name == name && !dim.getAsInteger(10, number) && number < input.shape.size())
        return input.shape[number];
    throw ImportError("galvatron.json in the archive has a bound of " + bound.dimension +
                      ", which is no size of an input; export the model again");
  }
};

/// Refuses sizes that the traced program is not for.
static void checkBounds(const Description &description, const Sizes &sizes) {
  for (const Bound &bound : description.bounds) {
    int64_t asked = sizes.of(bound);
    bool isOption = bound.dimension == "batch" || bound.dimension == "seq";
    std::string option = isOption ? "--" + bound.dimension + " " : bound.dimension + " = ";
    if (asked != bound.value)
      throw ImportError("expects " + option + std::to_string(bound.value) + ", the example's, but got " + option +
                        std::to_string(asked) + ": " + bound.place + " " + bound.reason + "; " +
                        (isOption ? "pass " + option + std::to_string(bound.value) : "leave --shape out") +
                        ", or export an example of the size to import");
  }
}

/// The example's inputs, with the sizes that were asked for.
static Sizes sizesOf(const Description &description, const ImportOptions &options) {
  Sizes sizes = {options.batch ? options.batch : description.exampleBatch,
                 options.seq ? options.seq : description.exampleSeq, description.inputs};
  if (sizes.batch <= 0 || sizes.seq <= 0)
    throw ImportError("the archive has no galvatron.json that tells its example's sizes; pass --batch and --seq");
  if (sizes.inputs.empty()) {
    if (!options.shapes.empty())
      throw ImportError("--shape is for modules exported with named inputs; this one takes tokens, whose length is "
                        "--seq");
    return sizes;
  }
  auto isLength = [&](const Importer::Input &input) {
    return input.type == ElementType::Int64 && input.shape.size() == 2 && input.shape[1] == description.exampleSeq;
  };
  bool hasTokens =
      llvm::any_of(sizes.inputs, [&](const Importer::Input &i) { return i.name == "input_ids" && isLength(i); });
  if (options.seq && !hasTokens)
    throw ImportError("--seq is the length of input_ids [batch, seq], which this module has none of; use --shape "
                      "NAME=SIZE");
  for (Importer::Input &input : sizes.inputs) {
    if (hasTokens && isLength(input))
      input.shape[1] = sizes.seq;
    input.shape[0] = sizes.batch;
  }
  for (const auto &[name, shape] : options.shapes) {
    auto found = llvm::find_if(sizes.inputs, [&](const Importer::Input &input) { return input.name == name; });
    if (found == sizes.inputs.end())
      throw ImportError("--shape names " + name + ", but the inputs are " +
                        llvm::join(llvm::map_range(sizes.inputs, [](const auto &i) { return i.name; }), ", "));
    if (found->shape.size() != shape.size() + 1)
      throw ImportError("--shape " + name + " expects " + std::to_string(found->shape.size() - 1) +
                        " sizes behind the batch, but got " + std::to_string(shape.size()));
    std::copy(shape.begin(), shape.end(), found->shape.begin() + 1);
    if (name == "input_ids" && shape.size() == 1)
      sizes.seq = shape[0];
  }
  return sizes;
}

/// An importer for these sizes, and how many of its inputs the module takes.
static std::unique_ptr<Importer> makeImporter(mlir::MLIRContext &context, const Sizes &sizes, bool isPacked) {
  if (!sizes.inputs.empty())
    return std::make_unique<Importer>(context, sizes.batch, sizes.seq, sizes.inputs);
  return std::make_unique<Importer>(context, sizes.batch, sizes.seq, isPacked);
}

/// The first check that fails; null if all hold.
static const Reader::Check *findFailed(const Reader &reader) {
  auto found = llvm::find_if(reader.checks, [](const Reader::Check &check) { return !check.holds; });
  return found == reader.checks.end() ? nullptr : &*found;
}

/// What computes with the batch in Python, so that the program is for this batch alone; empty if nothing does.
/// Programs of other batches tell: the smallest, and a large one that nothing divides.
static std::string findBatchHolder(mlir::MLIRContext &context, const torch::jit::Module &module,
                                   const Parameters &parameters, const Description &description, Sizes sizes,
                                   size_t count) {
  for (const Bound &bound : description.bounds)
    if (bound.dimension == "batch")
      return bound.place + " " + bound.reason;
  for (int64_t batch : {1, 2, 1000003}) {
    sizes.batch = batch;
    for (Importer::Input &input : sizes.inputs)
      input.shape[0] = batch;
    std::unique_ptr<Importer> importer = makeImporter(context, sizes, count == 3);
    Reader reader(*importer, parameters);
    try {
      reader.run(module, count);
    } catch (const ImportError &) {
      continue; // as an import for that batch would say
    }
    if (const Reader::Check *failed = findFailed(reader))
      return failed->otherwise;
  }
  return "";
}

/// Throws where the model's positions are not understood.
static void insertDocuments(mlir::ModuleOp program) {
  mlir::PassManager passes(program.getContext());
  buildDocumentsPhase(passes);
  std::string error;
  mlir::ScopedDiagnosticHandler handler(program.getContext(), [&](mlir::Diagnostic &diagnostic) {
    if (error.empty() && diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
      error = "--documents: " + describePlace(diagnostic.getLocation()) + diagnostic.str();
    return mlir::success();
  });
  if (mlir::failed(passes.run(program)))
    throw ImportError(error);
}

static mlir::OwningOpRef<mlir::ModuleOp> read(mlir::MLIRContext &context, const torch::jit::Module &module,
                                              const Parameters &parameters, const Description &description,
                                              const ImportOptions &options, std::vector<std::string> &warnings) {
  Sizes sizes = sizesOf(description, options);
  checkBounds(description, sizes);
  bool isNamed = !sizes.inputs.empty(), isPacked = !isNamed && Reader::isPacked(module);
  size_t count = isNamed ? sizes.inputs.size() : Reader::numTokenInputs(module);
  if (isNamed && (options.hasDocuments || options.labelsAreNext))
    throw ImportError(std::string(options.hasDocuments ? "--documents" : "--labels next") +
                      " is for modules of input_ids and labels alone; the data of named inputs say both");
  if (isPacked && options.hasDocuments)
    throw ImportError("--documents is for modules without position_ids as third input; this one has it, and keeps "
                      "documents apart itself: import it without --documents");
  std::unique_ptr<Importer> made = makeImporter(context, sizes, isPacked || options.hasDocuments);
  Importer &importer = *made;
  importer.areLabelsCounted = description.countsLabels;
  importer.exampleBatch = description.exampleBatch;
  importer.exampleSeq = description.exampleSeq;
  if (options.labelsAreNext)
    importer.moveLabels();
  Reader reader(importer, parameters);
  Value loss = reader.run(module, count);
  auto describe = [](int64_t batch, int64_t seq) {
    return "--batch " + std::to_string(batch) + " --seq " + std::to_string(seq);
  };
  bool asTraced =
      sizes.batch == description.exampleBatch && sizes.seq == description.exampleSeq && options.shapes.empty();
  if (const Reader::Check *failed = findFailed(reader); failed && !asTraced)
    throw ImportError(failed->otherwise + " (" + describe(sizes.batch, sizes.seq) + ", not " +
                      describe(description.exampleBatch, description.exampleSeq) +
                      "); pass those, or export an example of the sizes to import");
  std::string holder;
  if (!reader.checks.empty() || !description.bounds.empty())
    holder = findBatchHolder(context, module, parameters, description, sizes, count);
  if (!holder.empty())
    importer.module()->setAttr(graph::kBatchHeldByAttr, mlir::StringAttr::get(&context, holder));
  mlir::OwningOpRef<mlir::ModuleOp> program = importer.finish(loss);
  if (options.hasDocuments)
    insertDocuments(*program);
  describeBuffers(*program, reader, parameters.buffers());
  warnings = importer.warnings;
  return program;
}

static fs::path weightsBeside(const fs::path &output) { return fs::path(output).replace_extension(".safetensors"); }
static fs::path buffersBeside(const fs::path &output) {
  return fs::path(output).replace_extension(".buffers.safetensors");
}

/// Whether a folder holds shards and nothing else: then an import may replace it.
static bool holdsShardsOnly(const fs::path &folder) {
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    if (std::string name = entry.path().filename();
        !name.ends_with(safetensors::kFileEnding) && !name.ends_with(safetensors::kIndexEnding))
      return false;
  return true;
}

/// Before any work. A rename would also replace a device or a link to one.
static void checkOutputs(const fs::path &output) {
  if (fs::path shards = fs::path(output).replace_extension(".weights");
      fs::exists(shards) && !(fs::is_directory(shards) && holdsShardsOnly(shards)))
    throw ImportError("expects '" + shards.string() +
                      "' to be free for a model's weights, but it is something else; name another file with -o");
  for (const fs::path &path : {output, weightsBeside(output), buffersBeside(output)})
    if (path == "-" || (fs::exists(path) && !fs::is_regular_file(path)))
      throw ImportError("expects the output to be a file, with its weights beside it, but '" + path.string() +
                        "' is none; name a file with -o");
}

/// Writes under temporary names first: all files appear, or none does.
static void write(mlir::ModuleOp module, const Parameters &parameters, const std::optional<GivenWeights> &given,
                  const ImportOptions &options) {
  using WriteTensors = std::function<std::string(const std::string &)>;
  fs::path output(options.output);
  std::vector<std::pair<fs::path, WriteTensors>> beside;
  auto add = [&](llvm::StringRef attribute, const fs::path &path, const WriteTensors &writeTensors) {
    module->setAttr(attribute, mlir::StringAttr::get(module.getContext(), path.filename().string()));
    beside.push_back({path, writeTensors});
  };
  if (given)
    add(graph::kWeightsAttr, given->beside(output), [&](const std::string &path) { return given->place(path); });
  else if (!parameters.isWeightless())
    add(graph::kWeightsAttr, weightsBeside(output), [&](const std::string &path) { return parameters.write(path); });
  if (!parameters.buffers().empty())
    add(graph::kBuffersAttr, buffersBeside(output),
        [&](const std::string &path) { return parameters.writeBuffers(path); });

  auto temporary = [](const fs::path &path) { return path.string() + ".partial"; };
  auto refuse = [&](const fs::path &path, const std::string &why) {
    std::error_code ignored;
    fs::remove(temporary(output), ignored);
    for (const auto &[file, writeTensors] : beside)
      fs::remove_all(temporary(file), ignored);
    throw ImportError("cannot write " + path.string() + ": " + why + "; check the folder and its free space");
  };
  std::error_code error;
  llvm::raw_fd_ostream stream(temporary(output), error);
  if (error)
    refuse(output, error.message());
  module->print(stream, mlir::OpPrintingFlags().enableDebugInfo(true, false));
  stream << '\n';
  stream.close();
  if (stream.has_error()) {
    std::string why = stream.error().message();
    stream.clear_error();
    refuse(output, why);
  }
  for (const auto &[path, writeTensors] : beside)
    if (std::string why = writeTensors(temporary(path)); !why.empty())
      refuse(path, why);
  auto rename = [&](const fs::path &path) {
    if (fs::is_directory(path)) // shards of an earlier import, as checkOutputs saw
      fs::remove_all(path, error);
    fs::rename(temporary(path), path, error);
    if (error)
      refuse(path, error.message());
    fs::remove(temporary(path), error); // a link to the very file that has the name stays
  };
  for (const auto &[path, writeTensors] : beside)
    rename(path);
  rename(output);
}

static bool importHere(const ImportOptions &options, std::string &error, std::vector<std::string> &warnings) {
  try {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    context.loadDialect<graph::GraphDialect, mlir::arith::ArithDialect, mlir::math::MathDialect,
                        mlir::func::FuncDialect>();
    checkOutputs(options.output);
    std::string text;
    torch::jit::Module module = loadArchive(options.input, text);
    Description description = parseDescription(text, context);
    Parameters parameters(module, description);
    parameters.freeze(options.freeze);
    std::optional<GivenWeights> given;
    if (!options.weights.empty())
      given.emplace(options.weights, parameters);
    auto result = read(context, module, parameters, description, options, warnings);
    if (!description.config.empty())
      (*result)->setAttr(graph::kConfigAttr, mlir::StringAttr::get(&context, description.config));
    if (!description.adapter.empty())
      (*result)->setAttr(graph::kAdapterAttr, mlir::StringAttr::get(&context, description.adapter));
    write(*result, parameters, given, options);
    return true;
  } catch (const ImportError &failure) {
    error = failure.what();
  } catch (const c10::Error &failure) {
    error = firstSentence(failure.what_without_backtrace());
  } catch (const std::exception &failure) {
    error = firstSentence(failure.what());
  }
  return false;
}

bool galvatron::importModel(const ImportOptions &options, std::string &error, std::vector<std::string> &warnings) {
  // Reading calls itself for each level of values and of expressions, to the limits of lib/Import/Archive.
  constexpr std::optional<unsigned> kStackBytes = 1u << 29;
  bool isDone = false;
  llvm::thread thread(kStackBytes, [&] { isDone = importHere(options, error, warnings); });
  thread.join();
  return isDone;
}
