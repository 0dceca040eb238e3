// galvatron-launch-manual: what pages are made with of launch and stage binaries, which the compiler writes (--manual,
// --options-markdown, --completion).
#include "runtime/core/Options.h"

int main(int argc, char **argv) {
  return galvatron::options::printAnswer(galvatron::Options::commandLine(), argc, argv).value_or(1);
}
