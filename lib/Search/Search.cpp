// Holds the place of the search library.
#include "galvatron/Search/Search.h"

#include <cstdio>

int galvatron::search::runTool(int, char **) {
  std::fputs("galvatron-search: not built yet\n", stderr);
  return 1;
}
