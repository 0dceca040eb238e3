#!/usr/bin/env bash
# From a machine that nobody has measured to a plan for it: measures the machine and the model's bodies, searches and
# lowers. MODEL: a transformers config.json, an exported model.pt, or a model.mlir. Each step is printed as it could be
# typed; results are in DIR. The last line is `machine to plan in N s`. Building comes before (scripts/build.sh).
set -euo pipefail
started=$(date +%s)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage='usage: scripts/plan-here.sh MODEL [--target=cpu|cuda] [--precision=fp32|bf16] [--memory SIZE] [--global-batch N]
                            [--batch N] [--seq N] [--ranks N] [--prepared FOLDER] [--time-limit SECONDS] [--allow-busy]
                            [-o DIR]

  MODEL              config.json, model.pt or model.mlir
  --target TARGET    device: cpu (default) or cuda
  --precision TYPE   of activations and products (default: fp32 on cpu, bf16 on cuda)
  --memory SIZE      budget of one device, such as 2GiB
  --global-batch N   samples of a step
  --batch N, --seq N samples and tokens that the model is imported with (default: as it was exported)
  --ranks N          devices to measure and plan for (default: all of this host)
  --prepared FOLDER  bodies that galvatron-profile model --prepare compiled: they are measured as they are
  --time-limit SECONDS  of compiling and measuring bodies (default: 140, so that the plan is there in three minutes)
  --allow-busy       measure even while others use the machine
  -o DIR             results (default: ./plan-here)'
fail() {
  printf 'plan-here: error: %s\n' "$1" >&2
  exit 1
}

model='' target=cpu precision='' memory='' batch='' seq='' global='' ranks='' prepared='' limit=140 busy='' out=plan-here
while [ $# -gt 0 ]; do
  word=$1
  shift
  case $word in
  -h | --help)
    printf '%s\n' "$usage"
    exit 0
    ;;
  --*=*) # as two words
    set -- "${word#*=}" "$@"
    word=${word%%=*}
    ;;
  esac
  case $word in
  --target | --precision | --memory | --global-batch | --batch | --seq | --ranks | --prepared | --time-limit | -o)
    [ $# -gt 0 ] || fail "expects a value after $word; --help tells the rest"
    value=$1
    shift
    ;;
  esac
  case $word in
  --target) target=$value ;;
  --precision) precision=$value ;;
  --memory) memory=$value ;;
  --global-batch) global=$value ;;
  --batch) batch=$value ;;
  --seq) seq=$value ;;
  --ranks) ranks=$value ;;
  --prepared) prepared=$value ;;
  --time-limit) limit=$value ;;
  -o) out=$value ;;
  --allow-busy) busy=$word ;;
  -*) fail "unknown option $word; --help tells which there are" ;;
  *)
    [ -z "$model" ] || fail "expects one MODEL, but got '$model' and '$word'"
    model=$word
    ;;
  esac
done
[ -n "$model" ] || fail "expects MODEL: config.json, model.pt or model.mlir; --help tells the rest"
[ -f "$model" ] || fail "cannot read the model '$model'; give a config.json, model.pt or model.mlir"
case $target in cpu | cuda) ;; *) fail "expects --target cpu or cuda, but got '$target'" ;; esac
case $model in *.json | *.pt | *.mlir) ;; *) fail "expects a config.json, model.pt or model.mlir, but got '$model'" ;; esac
[ -n "$precision" ] || precision=$([ "$target" = cpu ] && echo fp32 || echo bf16)
. "$root/scripts/env.sh"

# step TITLE COMMAND…: prints both and what it took, and runs the command.
step() {
  local title=$1 begun
  shift
  printf '\n# %s\n$ ' "$title"
  printf '%q ' "$@"
  printf '\n'
  begun=$(date +%s)
  "$@"
  printf '# took %s s\n' $(($(date +%s) - begun))
}

mkdir -p "$out"
case $model in
*.json)
  step "Export the model, without weights" python -m galvatron.export --config "$model" --weightless -o "$out/model.pt"
  model=$out/model.pt
  ;;
esac
case $model in
*.pt)
  step "Import it" galvatron-import "$model" ${batch:+--batch "$batch"} ${seq:+--seq "$seq"} -o "$out/model.mlir"
  model=$out/model.mlir
  ;;
esac
step "Measure the machine and the model's bodies" galvatron-profile all "${prepared:-$model}" --target "$target" \
  --precision "$precision" ${ranks:+--ranks "$ranks"} --time-limit "$limit" ${busy:+"$busy"} -o "$out/profile"
step "Search a plan by what was measured, and lower it" galvatron-opt --search --lower "$model" \
  "--profile=$out/profile/profile.json" "--target=$target" "--precision=$precision" ${memory:+"--memory=$memory"} \
  ${global:+"--global-batch=$global"} -o "$out/lowered"
printf '\nmachine to plan in %s s\n' $(($(date +%s) - started))
