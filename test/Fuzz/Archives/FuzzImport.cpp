// Imports each archive whose path comes on the standard input, in a child of its own: LibTorch is loaded once, and an
// input that ends a child ends nothing else. A line for each: "imported", "refused MESSAGE", or "died SIGNAL".
//
// Usage: fuzz-import OUTPUT.mlir < paths
#include "galvatron/Import/Import.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>

/// What an input may take: of a process that has LibTorch in it already.
static constexpr unsigned kMostSeconds = 20;
static constexpr rlim_t kMostBytes = rlim_t(8) << 30;

static void boundMemory() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit bound{pages * 4096 + kMostBytes, pages * 4096 + kMostBytes};
  setrlimit(RLIMIT_AS, &bound);
}

int main(int argc, char **argv) {
  if (argc != 2)
    return std::fputs("usage: fuzz-import OUTPUT.mlir < paths\n", stderr), 1;
  for (std::string path; std::getline(std::cin, path);) {
    int ends[2];
    if (pipe(ends))
      return std::perror("fuzz-import: pipe"), 1;
    pid_t child = fork();
    if (child == 0) {
      alarm(kMostSeconds);
      boundMemory();
      galvatron::ImportOptions options;
      options.input = path, options.output = argv[1];
      options.batch = 2, options.seq = 16;
      std::string error;
      std::vector<std::string> warnings;
      bool done = galvatron::importModel(options, error, warnings);
      std::string line = done ? "imported" : "refused " + error;
      std::replace(line.begin(), line.end(), '\n', ' ');
      bool written = write(ends[1], line.data(), line.size()) == ssize_t(line.size());
      _exit(written ? 0 : 1);
    }
    close(ends[1]);
    std::string line;
    char bytes[4096];
    for (ssize_t count; (count = read(ends[0], bytes, sizeof bytes)) > 0;)
      line.append(bytes, size_t(count));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
      line = "died " + std::to_string(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    std::cout << line << std::endl;
  }
  return 0;
}
