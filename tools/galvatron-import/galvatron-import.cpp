// galvatron-import: a TorchScript archive to graph dialect and safetensors.
#include "galvatron/Import/Import.h"

int main(int argc, char **argv) { return galvatron::runImporter(argc, argv); }
