// One stage → one native object. Only the bodies that the stage's timetable names go in; the timetable
// itself is a constant table of 64-bit words, so that code size grows with neither layers nor micro-batches.
#include "galvatron/Target/DeviceCode.h"
#include "galvatron/Target/StageBinaries.h"

#include "dialects/Exec/Exec.h"
#include "galvatron/Conversion/Passes.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Transforms/Passes.h"
#include "runtime/api/Abi.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"

#include <map>

using namespace mlir;
using namespace galvatron;

namespace {

/// Builds the constants of the object in LLVM IR.
class ProgramBuilder {
public:
  ProgramBuilder(llvm::Module &module, const Timetable &timetable)
      : module(module), timetable(timetable), context(module.getContext()),
        pointer(llvm::PointerType::getUnqual(context)), word(llvm::Type::getInt64Ty(context)) {}

  void build(const std::string &manifest, const std::string &kernels, bool isLibrary);

private:
  llvm::Constant *constant(llvm::Constant *value, llvm::StringRef name) {
    return new llvm::GlobalVariable(module, value->getType(), true, llvm::GlobalValue::PrivateLinkage, value, name);
  }
  void declareFunctions();
  /// A list of entries as words; `evaluation`'s, where it has its own offsets.
  std::vector<int64_t> words(const Timetable &list);
  llvm::Constant *buildWords(const std::vector<int64_t> &words, llvm::StringRef name);
  void buildMain(llvm::Constant *program);
  void buildAccess(llvm::Constant *program);

  llvm::Module &module;
  const Timetable &timetable;
  llvm::LLVMContext &context;
  llvm::PointerType *pointer;
  llvm::Type *word;
  std::map<std::string, int64_t> indices, names;
  std::vector<llvm::Constant *> functions;
};

} // namespace

void ProgramBuilder::declareFunctions() {
  auto *type = llvm::FunctionType::get(llvm::Type::getVoidTy(context), {pointer, pointer, pointer}, false);
  for (const std::string &name : functionsOf(timetable)) {
    indices[name] = functions.size();
    functions.push_back(llvm::cast<llvm::Constant>(module.getOrInsertFunction(name, type).getCallee()));
  }
}

std::vector<int64_t> ProgramBuilder::words(const Timetable &list) {
  std::vector<int64_t> table;
  for (const TimetableEntry &entry : list.entries) {
    RuntimeCall call = getRuntimeCall(entry.action);
    int64_t words[GVRT_ENTRY_FIRST_BUFFER];
    words[GVRT_ENTRY_WORDS] = GVRT_ENTRY_FIRST_BUFFER + call.buffers.size() + call.constants.size();
    words[GVRT_ENTRY_FUNCTION] = indices.at(call.function);
    words[GVRT_ENTRY_NAME] = names.at(entry.name);
    words[GVRT_ENTRY_MICRO_BATCH] = entry.microBatch;
    words[GVRT_ENTRY_LAYER] = entry.layerIndex;
    words[GVRT_ENTRY_NUM_BUFFERS] = call.buffers.size();
    llvm::append_range(table, words);
    for (BufferReference buffer : call.buffers)
      table.push_back(buffer ? list.buffers[buffer.buffer].offset + buffer.offset : -1);
    llvm::append_range(table, call.constants);
  }
  return table;
}

llvm::Constant *ProgramBuilder::buildWords(const std::vector<int64_t> &words, llvm::StringRef name) {
  llvm::ArrayRef<uint64_t> data(reinterpret_cast<const uint64_t *>(words.data()), words.size());
  return constant(llvm::ConstantDataArray::get(context, data), name);
}

void ProgramBuilder::buildMain(llvm::Constant *program) {
  llvm::Type *integer = llvm::Type::getInt32Ty(context);
  auto runtimeMain =
      module.getOrInsertFunction("gvrt_main", llvm::FunctionType::get(integer, {integer, pointer, pointer}, false));
  auto *main = llvm::Function::Create(llvm::FunctionType::get(integer, {integer, pointer}, false),
                                      llvm::GlobalValue::ExternalLinkage, "main", module);
  llvm::IRBuilder<> builder(llvm::BasicBlock::Create(context, "entry", main));
  builder.CreateRet(builder.CreateCall(runtimeMain, {main->getArg(0), main->getArg(1), program}));
}

/// Of a library: whoever loads it asks for the program.
void ProgramBuilder::buildAccess(llvm::Constant *program) {
  auto *access = llvm::Function::Create(llvm::FunctionType::get(pointer, false), llvm::GlobalValue::ExternalLinkage,
                                        "gvrt_bodies", module);
  llvm::IRBuilder<> builder(llvm::BasicBlock::Create(context, "entry", access));
  builder.CreateRet(program);
}

void ProgramBuilder::build(const std::string &manifest, const std::string &kernels, bool isLibrary) {
  declareFunctions();
  for (const std::string &name : entryNames(timetable))
    names.try_emplace(name, names.size());
  std::vector<int64_t> table = words(timetable), evaluation;
  for (const Timetable &list : timetable.evaluation)
    evaluation = words(list);
  auto number = [&](int64_t value) { return llvm::ConstantInt::get(word, value); };
  llvm::Constant *manifestData = constant(llvm::ConstantDataArray::getString(context, manifest), "manifest");
  llvm::Constant *tableData = buildWords(table, "timetable"), *evaluationData = buildWords(evaluation, "evaluation");
  auto *functionsType = llvm::ArrayType::get(pointer, functions.size());
  llvm::Constant *functionsData = constant(llvm::ConstantArray::get(functionsType, functions), "functions");
  llvm::Constant *kernelsData = llvm::ConstantPointerNull::get(pointer);
  if (!kernels.empty())
    kernelsData = constant(llvm::ConstantDataArray::getString(context, kernels), "kernels");
  int64_t kernelsBytes = kernels.empty() ? 0 : kernels.size() + 1;
  llvm::Constant *program = llvm::ConstantStruct::getAnon(
      {number(kAbi), manifestData, functionsData, number(functions.size()), tableData, number(table.size()),
       kernelsData, number(kernelsBytes), evaluationData, number(evaluation.size())});
  llvm::Constant *named = constant(program, "program");
  isLibrary ? buildAccess(named) : buildMain(named);
}

/// Bodies that a stage does not execute, and all that is not code, leave the module.
static void keepOnly(ModuleOp module, const Timetable &timetable) {
  llvm::StringSet<> used;
  used.insert_range(functionsOf(timetable));
  for (Operation &op : llvm::make_early_inc_range(*module.getBody())) {
    auto function = dyn_cast<exec::FunctionOp>(op);
    if (!function || !used.contains(function.getSymName()))
      op.erase();
  }
}

/// The body after `StartBackward`: the loss' gradient is one.
static void addStartBackward(ModuleOp module) {
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = module.getLoc();
  auto scalar = MemRefType::get({}, builder.getF32Type());
  auto scratch = MemRefType::get({ShapedType::kDynamic}, builder.getI8Type());
  auto function =
      exec::FunctionOp::create(builder, loc, kStartBackwardFunction, builder.getFunctionType({scalar, scratch}, {}),
                               StringAttr(), ArrayAttr(), ArrayAttr());
  function->setAttr(exec::kScratchBytes, builder.getI64IntegerAttr(0));
  Block *block = builder.createBlock(&function.getBody(), {}, {scalar, scratch}, {loc, loc});
  auto loops = exec::LoopsOp::create(builder, loc, ValueRange{}, ValueRange{block->getArgument(0)}, ArrayRef<int64_t>{},
                                     ArrayRef<int64_t>{});
  builder.createBlock(&loops.getBody());
  Value one = arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(1.0));
  exec::YieldOp::create(builder, loc, one);
  builder.setInsertionPointToEnd(block);
  exec::ReturnOp::create(builder, loc);
}

/// Bodies → LLVM; generated GPU kernels → `ptx`, empty where there are none.
static LogicalResult convertToLLVM(ModuleOp module, const StageOutputOptions &options, std::string &ptx) {
  PassManager first(module.getContext());
  first.addPass(createConvertExecToLLVMPass());
  if (failed(first.run(module)))
    return failure();
  if (auto kernels = module.lookupSymbol<ModuleOp>(exec::kKernels)) {
    FailureOr<std::string> text = compileKernels(kernels, options.architecture);
    if (failed(text))
      return failure();
    ptx = std::move(*text);
    kernels.erase();
  }
  PassManager passes(module.getContext());
  passes.addPass(createApproximateMathPass());
  passes.addPass(createExpandBfloat16Pass());
  passes.addPass(createCanonicalizerPass()); // constants of the approximations
  passes.addPass(createCSEPass());           // addresses that several buffers share
  passes.addPass(createSCFToControlFlowPass());
  passes.addPass(createConvertMathToLLVMPass());
  passes.addPass(createConvertMathToLibmPass()); // what has neither polynomial nor instruction
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createConvertFuncToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  return passes.run(module);
}

static std::unique_ptr<llvm::TargetMachine> createMachine(StringRef processor) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  llvm::Triple triple(llvm::sys::getDefaultTargetTriple());
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  assert(target && "LLVM generates code for the machine that it runs on");
  llvm::SubtargetFeatures features;
  std::string name = processor.str();
  if (processor == "native") {
    name = llvm::sys::getHostCPUName().str();
    for (const auto &feature : llvm::sys::getHostCPUFeatures())
      features.AddFeature(feature.first(), feature.second);
  }
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, name, features.getString(), llvm::TargetOptions(), llvm::Reloc::PIC_,
                                  std::nullopt, llvm::CodeGenOptLevel::Default));
}

static void setProcessor(llvm::Module &module, const llvm::TargetMachine &machine) {
  for (llvm::Function &function : module) {
    function.addFnAttr("target-cpu", machine.getTargetCPU());
    function.addFnAttr("target-features", machine.getTargetFeatureString());
    function.addFnAttr("prefer-vector-width", "512"); // generated loops stream through memory
  }
}

LogicalResult galvatron::writeStageObject(ModuleOp module, const Timetable &timetable, StringRef program,
                                          const StageOutputOptions &options, StringRef path) {
  std::string manifest = writeManifest(module, timetable, options.modelName, program);
  OwningOpRef<ModuleOp> code(module.clone());
  keepOnly(*code, timetable);
  if (!timetable.losses.empty() && !timetable.isLossScaled)
    addStartBackward(*code);
  std::string kernels;
  if (failed(convertToLLVM(*code, options, kernels)))
    return failure();
  registerBuiltinDialectTranslation(*code->getContext());
  registerLLVMDialectTranslation(*code->getContext());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> native = translateModuleToLLVMIR(*code, context, "stage");
  if (!native)
    return failure(); // the translation has said why
  std::unique_ptr<llvm::TargetMachine> machine = createMachine(options.processor);
  native->setTargetTriple(machine->getTargetTriple());
  native->setDataLayout(machine->createDataLayout());
  ProgramBuilder(*native, timetable).build(manifest, kernels, options.isLibrary);
  setProcessor(*native, *machine);
  optimize(*native, *machine);
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream out(object);
  llvm::legacy::PassManager emitter;
  bool isUnsupported = machine->addPassesToEmitFile(emitter, out, nullptr, llvm::CodeGenFileType::ObjectFile);
  assert(!isUnsupported && "LLVM writes objects for the machine that it runs on");
  (void)isUnsupported;
  emitter.run(*native);
  std::string error;
  return writeOutputFile(path.str(), {object.data(), object.size()}, error) ? success()
                                                                             : emitError(module.getLoc()) << error;
}
