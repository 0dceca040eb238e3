#!/usr/bin/env bash
# scripts/test.sh [preset]: sets up, builds everything and runs every test: lit, conventions, GoogleTest, and pytest for
# the Python package and for whole runs under mpirun. The last line is `N passed, N failed, N skipped` over all of them.
# Results of each runner stay in <build folder>/test-results.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
preset=${1:-dev}
case $preset in dev) build=build ;; *) build=build-$preset ;; esac
results=$build/test-results

# A failure before any test still ends in the closing line.
abandon() {
  printf '\n%s failed; no test was run\n0 passed, 1 failed, 0 skipped\n' "$1"
  exit 1
}
# With CUDA's compiler and libraries where they can be had: the cuda device is then built, and its tests run as far as
# they can without a GPU.
scripts/setup.sh --cuda || scripts/setup.sh || abandon scripts/setup.sh
export GALVATRON_BUILD_DIR=$build
. scripts/env.sh
scripts/build.sh "$preset" all docs || abandon scripts/build.sh

rm -rf "$results" && mkdir -p "$results"
heading() { printf '\n\033[1m=== %s ===\033[0m\n' "$1"; }

# run NAME SECONDS COMMAND...: a runner that dies or overruns leaves no results and is then counted as a failure.
run() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  heading "$name"
  timeout --kill-after=30 "$limit" "$@"
  status=$?
  printf '%s: exit status %d after %d s\n' "$name" "$status" $((SECONDS - start))
  echo "$status" >"$results/$name.status"
}

python=$root/.venv/bin/python
run lit 900 "$python" -c 'from lit.main import main; main()' -sv --xunit-xml-output "$results/lit.xml" "$build/test"
run unit 1200 ctest --test-dir "$build" --output-on-failure --timeout 300 --output-junit "$root/$results/unit.xml"
run conventions 300 "$python" -m pytest -q --junitxml "$results/conventions.xml" test/Conventions
run python 900 "$python" -m pytest -q --junitxml "$results/python.xml" test/python
run end-to-end 2400 "$python" -m pytest -q --junitxml "$results/end-to-end.xml" test/EndToEnd

heading summary
"$python" scripts/summarize_tests.py "$results"
