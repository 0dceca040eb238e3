"""Times one fp32 training step of a transformers model in PyTorch on the CPU.

    python bench/torch_step.py --config config.json --batch 8 --seq 256

The other side of the CPU-speed benchmark: forward, backward, gradient norm and AdamW, eager and
under torch.compile, on one thread unless said. Prints one JSON object:

    {"threads", "batch", "seq", "parameters", "eager": {…}, "compile": {…}}

Each side has tokens_per_second (batch * seq / median step), step_seconds (the median), the fastest
step, and the last loss; "compile" has "error" instead where no compiler is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import torch  # noqa: E402

from galvatron import huggingface, tracing  # noqa: E402
from galvatron.errors import GalvatronError, first_line  # noqa: E402


def make_step(arguments: argparse.Namespace, compiled: bool) -> tuple[Callable[[], float], int]:
    """A function that trains one step on fixed random tokens and returns the loss; and the number
    of parameters."""
    with huggingface.quiet():
        config = huggingface.read_config(arguments.config)
        model = huggingface.build_random(config, "sdpa", seed=0).train()
    loss_of = tracing.loss_function(model)
    if compiled:
        loss_of = torch.compile(loss_of)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    vocabulary = config.get_text_config().vocab_size
    tokens = torch.randint(0, vocabulary, (arguments.batch, arguments.seq))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(tokens, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step, sum(p.numel() for p in model.parameters())


def measure(step: Callable[[], float], arguments: argparse.Namespace) -> dict[str, float]:
    for _ in range(arguments.warmup):
        step()
    seconds = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "tokens_per_second": arguments.batch * arguments.seq / median,
        "step_seconds": median,
        "fastest_step_seconds": min(seconds),
        "loss": loss,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--config", type=Path, required=True, help="a transformers config.json")
    add("--batch", type=int, default=8, help="rows (default: 8)")
    add("--seq", type=int, default=256, help="tokens per row (default: 256)")
    add("--steps", type=int, default=10, help="timed steps (default: 10)")
    add("--warmup", type=int, default=2, help="steps before (default: 2)")
    add("--threads", type=int, default=1, help="default: 1")
    add("--no-compile", action="store_true", help="eager only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        step, parameters = make_step(arguments, compiled=False)
    except GalvatronError as error:
        print(f"torch_step: error: {error}", file=sys.stderr)
        return 1
    result = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "batch": arguments.batch,
        "seq": arguments.seq,
        "parameters": parameters,
        "eager": measure(step, arguments),
    }
    if not arguments.no_compile:
        try:
            result["compile"] = measure(make_step(arguments, compiled=True)[0], arguments)
        except Exception as error:  # a missing C++ compiler, an unsupported model
            result["compile"] = {"error": first_line(error)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
