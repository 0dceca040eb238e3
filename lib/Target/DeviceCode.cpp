// See DeviceCode.h.
#include "galvatron/Target/DeviceCode.h"

#include "galvatron/Transforms/Passes.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using namespace galvatron;

// llvm/Support/TargetSelect.h declares these for all targets at once.
extern "C" {
void LLVMInitializeNVPTXTargetInfo();
void LLVMInitializeNVPTXTarget();
void LLVMInitializeNVPTXTargetMC();
void LLVMInitializeNVPTXAsmPrinter();
}

/// The oldest PTX that knows sm_90a; every driver for CUDA 12 and later reads it.
static constexpr llvm::StringLiteral kPtxVersion = "+ptx80";
static constexpr llvm::StringLiteral kThreadsPerBlock = "256"; // at most; GpuKernels.cpp

static std::unique_ptr<llvm::TargetMachine> createGpuMachine(StringRef architecture) {
  LLVMInitializeNVPTXTargetInfo();
  LLVMInitializeNVPTXTarget();
  LLVMInitializeNVPTXTargetMC();
  LLVMInitializeNVPTXAsmPrinter();
  llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  assert(target && "LLVM generates PTX");
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Fast; // products and sums in one instruction, rounded once
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, architecture, kPtxVersion, options, llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

bool galvatron::isKnownGpuArchitecture(StringRef architecture) {
  return createGpuMachine("sm_70")->getMCSubtargetInfo()->isCPUStringValid(architecture);
}

void galvatron::optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PassBuilder builder(&machine);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3).run(module, modules);
}

static LogicalResult convertKernels(ModuleOp kernels) {
  PassManager passes(kernels.getContext());
  math::MathExpandOpsPassOptions expanded;
  expanded.opMnemonics = {"powf"};
  passes.addPass(math::createMathExpandOpsPass(expanded));
  passes.addPass(createApproximateMathPass());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass()); // elements of a run share what is broadcast
  passes.addPass(createConvertMathToLLVMPass());
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  return passes.run(kernels);
}

FailureOr<std::string> galvatron::compileKernels(ModuleOp kernels, StringRef architecture) {
  if (failed(convertKernels(kernels)))
    return failure();
  registerBuiltinDialectTranslation(*kernels.getContext());
  registerLLVMDialectTranslation(*kernels.getContext());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> device = translateModuleToLLVMIR(kernels, context, "kernels");
  if (!device)
    return failure(); // the translation has said why
  std::unique_ptr<llvm::TargetMachine> machine = createGpuMachine(architecture);
  device->setTargetTriple(machine->getTargetTriple());
  device->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *device)
    if (!function.isDeclaration() && !function.hasFnAttribute("nvvm.maxntid"))
      function.addFnAttr("nvvm.maxntid", kThreadsPerBlock);
  optimize(*device, *machine);
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream out(text);
  llvm::legacy::PassManager emitter;
  bool isUnsupported = machine->addPassesToEmitFile(emitter, out, nullptr, llvm::CodeGenFileType::AssemblyFile);
  assert(!isUnsupported && "LLVM writes PTX as text");
  (void)isUnsupported;
  emitter.run(*device);
  return text.str().str();
}
