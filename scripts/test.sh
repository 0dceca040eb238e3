#!/usr/bin/env bash
# scripts/test.sh [preset]: sets up, builds everything and runs every test: lit, conventions, GoogleTest, and pytest for
# the Python package and for whole runs under mpirun. The last line is `N passed, N failed, N skipped` over all of them.
# Results and output of each runner stay in <build folder>/test-results.
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

# run NAME SECONDS COMMAND...: a runner that dies or overruns leaves no results and is then counted as a failure. What
# it says is shown when it has ended, since another may run beside it.
run() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  timeout --kill-after=30 "$limit" "$@" >"$results/$name.log" 2>&1
  status=$?
  echo "$status" >"$results/$name.status"
  {
    flock 9
    heading "$name"
    cat "$results/$name.log"
    printf '%s: exit status %d after %d s\n' "$name" "$status" $((SECONDS - start))
  } 9>"$results/output.lock"
}

python=$root/.venv/bin/python
components() {
  run lit 900 "$python" -c 'from lit.main import main; main()' -sv --xunit-xml-output "$results/lit.xml" "$build/test"
  run unit 1800 ctest --test-dir "$build" --output-on-failure --timeout 300 --output-junit "$root/$results/unit.xml"
  run conventions 300 "$python" -m pytest -q --junitxml "$results/conventions.xml" test/Conventions
  run python 1500 "$python" -m pytest -q --junitxml "$results/python.xml" test/python
}
whole_runs() { run end-to-end 3000 "$python" -m pytest -q --junitxml "$results/end-to-end.xml" test/EndToEnd; }
# Both take about as long, and most of what they run has one thread. Who does not get to its end has failed.
for name in lit unit conventions python end-to-end; do echo 125 >"$results/$name.status"; done
echo 'running lit, unit, conventions and python beside end-to-end'
components &
whole_runs
wait

heading summary
"$python" scripts/summarize_tests.py "$results"
