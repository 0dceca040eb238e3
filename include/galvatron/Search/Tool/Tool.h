//===- Tool.h - The search as a tool ----------------------------*- C++ -*-===//
#ifndef GALVATRON_SEARCH_TOOL_TOOL_H
#define GALVATRON_SEARCH_TOOL_TOOL_H

namespace galvatron::search {

/// Runs the galvatron-search tool and returns its exit code: 0 a plan, 1 an
/// error, 2 nothing fits. Shows a progress line when standard error is a terminal.
/// Installs handlers for SIGINT and SIGTERM.
int runTool(int argc, char **argv);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TOOL_TOOL_H
