// galvatron-profile: measures a machine for the plan search.
#include "galvatron/Profile/Tool.h"

int main(int argc, char **argv) { return galvatron::profile::runTool(argc, argv); }
