// galvatron-reduce: the smallest program that a test finds interesting.
#ifndef GALVATRON_REDUCE_TOOL_H
#define GALVATRON_REDUCE_TOOL_H

namespace galvatron {

/// Runs the tool, with mlir-reduce's options, and returns its exit code: 0, or 1 after an error.
int runReduceTool(int argc, char **argv);

} // namespace galvatron

#endif
