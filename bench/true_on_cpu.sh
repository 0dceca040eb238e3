#!/usr/bin/env bash
# All that shows whether predictions come true on the CPU, one after the other, unattended, on a machine that does nothing
# else: profiles of both precisions, bench/truth.py, bench/regret.py of two workloads, bench/profile_check.py. The same
# command goes on where it ended. Results: bench/results/{truth_cpu,regret_quickstart,regret_wide,profile_others,
# profile_repeats}.{json,md}, or in OUT. About an hour; the exit code is 1 where a part failed or was beyond what it is to be.
set -uo pipefail
[ $# -ge 1 ] || {
  echo 'usage: bench/true_on_cpu.sh FOLDER [OUT] [--allow-busy]' >&2
  exit 1
}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/env.sh"
folder=$1 busy='' out=$root/bench/results
shift
for word in "$@"; do
  case $word in --allow-busy) busy=$word ;; *) out=$word ;; esac
done
failed=0

# part COMMAND…: prints it and what it took; a failure does not end the others.
part() {
  local begun=$SECONDS code=0
  printf '\n$ %s\n' "$*"
  "$@" || code=$?
  [ $code = 0 ] || failed=1
  printf '# took %s s, code %s\n' $((SECONDS - begun)) $code
  return $code
}

part python "$root/bench/truth.py" --prepare "$folder"
for precision in fp32 bf16; do
  profile=$folder/profile-$precision
  part galvatron-profile all "$folder/quickstart.mlir" --ranks 2 --precision $precision --micro-batch 1,2,4,8 --sizes 4KiB:64MiB \
    --time-limit 300 -o "$profile" --quiet $busy
  part galvatron-profile model "$folder/wide.mlir" --ranks 2 --precision $precision --micro-batch 1,2,4 \
    --time-limit 240 -o "$profile" --quiet $busy
done
part python "$root/bench/truth.py" --run "$folder" --profile "$folder/profile-fp32/profile.json" \
  --profile "$folder/profile-bf16/profile.json" --causes --time-limit 1200 -o "$out/truth_cpu"
for model in quickstart wide; do
  lowered=$folder/regret-$model profile=$folder/profile-fp32/profile.json
  [ -e "$lowered/prepared" ] || {
    part python "$root/bench/regret.py" "$folder/$model.mlir" --profile "$profile" --plans 10 --prepare "$lowered" &&
      touch "$lowered/prepared"
  }
  part python "$root/bench/regret.py" "$folder/$model.mlir" --profile "$profile" --prepared "$lowered" --time-limit 600 \
    -o "$out/regret_$model"
done
part python "$root/bench/profile_check.py" others -o "$out/profile_others" $busy
part python "$root/bench/profile_check.py" repeats --model "$folder/quickstart.mlir" -o "$out/profile_repeats" $busy
exit $failed
