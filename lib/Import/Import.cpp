// Holds the place of the importer.
#include "galvatron/Import/Import.h"

#include "dialects/Graph/Graph.h"

#include <torch/script.h>

#include <cstdio>

int galvatron::runImporter(int argc, char **argv) {
  if (argc < 2) {
    std::fputs("usage: galvatron-import model.pt -o model.mlir\n", stderr);
    return 1;
  }
  try {
    torch::jit::Module module = torch::jit::load(argv[1]);
    std::printf("// %s\n", module.type()->repr_str().c_str());
  } catch (const c10::Error &error) {
    std::fprintf(stderr, "galvatron-import: %s: %s\n", argv[1], error.what_without_backtrace());
    return 1;
  }
  return 0;
}
