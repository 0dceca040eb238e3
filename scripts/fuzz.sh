#!/usr/bin/env bash
# scripts/fuzz.sh [COUNT [SEED]]: reads COUNT inputs of each format (default 65000: a million in all) with the readers
# built under AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of their own; only they are built. Stopped and
# started again it goes on (build-asan/fuzz.SEED.state). An input that ends a reader is named, and
#
#   build-asan/bin/fuzz --corpus test/Fuzz/corpus --formats FORMAT --seed SEED --write NUMBER
#
# prints it. PROGRAMS is the number of programs (default COUNT / 2), which take a hundred times as long to read as a plan.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=${1:-65000} seed=${2:-1}
cmake --preset asan >/dev/null
cmake --build build-asan --target fuzz fuzz-programs
# A leak is no finding here: MLIR keeps its contexts' storage, and an input that is refused ends the tool.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=0:max_allocation_size_mb=8192 UBSAN_OPTIONS=print_stacktrace=1
options=(--corpus test/Fuzz/corpus --seed "$seed" --state "build-asan/fuzz.$seed.state")
build-asan/bin/fuzz "${options[@]}" --count "$count"
build-asan/bin/fuzz-programs --corpus test/Fuzz/corpus --seed "$seed" --state "build-asan/fuzz-programs.$seed.state" \
  --count "${PROGRAMS:-$((count / 2))}"
