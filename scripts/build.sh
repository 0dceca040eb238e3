#!/usr/bin/env bash
# scripts/build.sh [preset [target...]]: configures and builds; preset is dev (default), release or asan, the default
# targets are all. Jobs: as many as cores, or CMAKE_BUILD_PARALLEL_LEVEL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-dev}
shift || true
case $preset in dev) dir=build ;; *) dir=build-$preset ;; esac

# Always configured (1 s when nothing changed): what setup.sh installed meanwhile is seen.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; exit 1; }
grep -E '^-- (Python|LibTorch):' "$log" || true
if [ $# -eq 0 ]; then set -- all; fi
cmake --build "$dir" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" --target "$@"
