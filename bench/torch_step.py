"""Times one fp32 training step of a transformers model in PyTorch on the CPU.

    python bench/torch_step.py --config config.json --batch 8 --seq 256

The other side of the CPU-speed benchmark: forward, backward, gradient norm and AdamW, eager and
under torch.compile, on one thread unless said. Prints one JSON object:

    {"threads", "batch", "seq", "parameters", "eager": {…}, "compile": {…}}

Each side has tokens_per_second (batch * seq / median step), step_seconds (the median), the fastest
step, and the last loss; "compile" has "error" instead where no compiler is there.

With --serve KIND it times one side only, under another program's control: for each line `N` on its standard input it
trains N steps, and prints one line: a list of [seconds, loss]. KIND is eager, compile, or onednn: eager, but with every
matrix product (aten::mm) computed by the oneDNN that PyTorch carries instead of its BLAS, to tell the two libraries'
difference from the two programs'. --data makes it read the windows that a compiled model reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
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
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr)
    vocabulary = config.get_text_config().vocab_size
    windows = read_windows(arguments) if arguments.data else None
    fixed = torch.randint(0, vocabulary, (arguments.batch, arguments.seq))

    def step() -> float:
        tokens = next(windows) if windows else fixed
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(tokens, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step, sum(p.numel() for p in model.parameters())


def read_windows(arguments: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Step k's tokens: windows k * batch ... of a file of bytes, wrapping at its end."""
    size = arguments.batch * arguments.seq
    tokens = torch.frombuffer(bytearray(arguments.data.read_bytes()), dtype=torch.uint8).long()
    while True:
        for first in range(0, len(tokens) - size + 1, size):
            yield tokens[first : first + size].view(arguments.batch, arguments.seq)


def multiply_with_onednn() -> torch.library.Library:
    """Replaces aten::mm for as long as the result lives."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm", lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], ""), "CPU")
    return library


def serve(arguments: argparse.Namespace) -> None:
    library = multiply_with_onednn() if arguments.serve == "onednn" else None
    step, _ = make_step(arguments, compiled=arguments.serve == "compile")
    for line in sys.stdin:
        results = []
        for _ in range(int(line)):
            start = time.perf_counter()
            loss = step()
            results.append([time.perf_counter() - start, loss])
        print(json.dumps(results), flush=True)
    del library


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
    add("--data", type=Path, help="token ids, a byte each (default: fixed random ones)")
    add("--lr", type=float, default=1e-3, help="default: 1e-3")
    add("--serve", choices=["eager", "compile", "onednn"], help="time one side, on demand")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.serve:
        serve(arguments)
        return 0
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
