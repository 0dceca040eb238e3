#!/usr/bin/env bash
# From a fresh clone to a trained model: installs what is missing, builds, and trains a small Llama (3 million parameters,
# byte vocabulary) on the licence texts of Debian's base system, with 4 ranks on this machine. Every step is printed as it
# could be typed; results are in build/quickstart. The last line is `final loss X.XXXX`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
# step TITLE COMMAND: prints both, then runs the command in this shell.
step() {
  printf '\n%s# %s%s\n%s$ %s%s\n' "$bold" "$1" "$plain" "$bold" "$2" "$plain"
  eval "$2"
}

out=build/quickstart
step "Install what is missing" \
  "scripts/setup.sh"
step "Build the tools and the runtime" \
  "scripts/build.sh dev galvatron-opt galvatron-import galvatron-search galvatron_rt galvatron_cpu"
step "Put tools and Python package on the paths" \
  ". scripts/env.sh"

rm -rf "$out" && mkdir -p "$out"
step "Real text, a byte a token" \
  "find /usr/share/common-licenses -type f | LC_ALL=C sort | xargs cat > $out/tokens.bin"
step "Export an unmodified LlamaForCausalLM to TorchScript" \
  "python -m galvatron.export --config scripts/quickstart/llama.json --seed 1 -o $out/llama.pt"
step "Import it" \
  "galvatron-import $out/llama.pt --batch 8 --seq 256 -o $out/llama.mlir"
# One replica's weights, gradients and optimizer state are 49 MB: data parallelism alone does not fit.
step "Search a plan for 4 devices of 48 MiB each, and compile it to one executable per pipeline stage" \
  "galvatron-opt --search --lower $out/llama.mlir --ranks=4 --memory=48MiB --global-batch=8 -o $out/llama"
# PyTorch goes from 5.5 to 1.9 with these numbers (2.2 with twice the learning rate).
step "Train" \
  "$out/llama/launch --steps 200 --lr 3e-3 --min-lr 3e-4 --lr-schedule cosine --warmup 10 --betas 0.9,0.95 --clip-grad 1 \\
    --data $out/tokens.bin --data-dtype u8 --shuffle --seed 1 --log $out/log.csv"
step "The plan, and how the loss went" \
  "python -m galvatron.report $out/llama/plan.json $out/log.csv"
