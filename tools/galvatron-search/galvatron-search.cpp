// galvatron-search: the plan search as a tool of its own.
#include "galvatron/Search/Tool/Tool.h"

int main(int argc, char **argv) { return galvatron::search::runTool(argc, argv); }
