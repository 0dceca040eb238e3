// galvatron-lsp-server: programs in editors, over the language server protocol: diagnostics, hover, definitions,
// completion.
#include "galvatron/Pipelines/Pipelines.h"
#include "galvatron/Pipelines/RegisteredOptions.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  galvatron::registerDialects(registry);
  galvatron::AnswerOptions answers({"galvatron-lsp-server",
                                    "programs in editors: diagnostics, hover, definitions and completion",
                                    "galvatron-lsp-server",
                                    "An editor starts it and speaks the language server protocol over standard input "
                                    "and output; docs/editors.md has "
                                    "settings for VS Code and Neovim. The options are those of mlir-lsp-server.",
                                    {}},
                                   llvm::cl::getGeneralCategory());
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
