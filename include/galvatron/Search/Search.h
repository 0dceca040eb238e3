// Holds the place of the search library.
#ifndef GALVATRON_SEARCH_SEARCH_H
#define GALVATRON_SEARCH_SEARCH_H

namespace galvatron::search {

/// Runs the galvatron-search tool and returns its exit code.
int runTool(int argc, char **argv);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SEARCH_H
