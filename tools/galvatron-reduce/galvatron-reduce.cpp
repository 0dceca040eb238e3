// galvatron-reduce: the smallest program that a script still finds interesting.
#include "galvatron/Reduce/Tool.h"

int main(int argc, char **argv) { return galvatron::runReduceTool(argc, argv); }
