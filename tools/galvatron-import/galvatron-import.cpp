// galvatron-import: an exported module to graph dialect and safetensors.
#include "galvatron/Import/Import.h"

int main(int argc, char **argv) { return galvatron::runImportTool(argc, argv); }
