"""Trains an exported module in PyTorch, fp32 on the CPU: the referee of end-to-end tests.

    python -m galvatron.reference model.pt --data tokens.bin --batch 8 --seq 64 --steps 20 \\
        --log log.csv --dump-gradients gradients

Takes the stage binaries' options and writes the same log columns and gradient files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import galvatron
from galvatron import outputs, schedule
from galvatron.errors import GalvatronError, first_line

if __name__ != "__main__":
    import torch
    from torch import nn

    from galvatron import archive

LOG_COLUMNS = ("step", "loss", "lr", "grad_norm", "tokens_per_second", "peak_bytes")
GRADIENT_FILE = "step-{:06d}.safetensors"


def unique_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters by their first name; tied ones once, though an archive may hold them as
    two tensors of one storage (then they become one here)."""
    result: dict[str, nn.Parameter] = {}
    by_storage: dict[tuple, nn.Parameter] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        known = by_storage.setdefault((parameter.data_ptr(), tuple(parameter.shape)), parameter)
        if known is parameter and not any(known is p for p in result.values()):
            result[name] = parameter
        elif known is not parameter:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner) if owner else module, leaf, known)
    return result


def frozen_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """By their first name, ties by storage."""
    aliases = {name for group in archive.tied_names(module) for name in group[1:]}
    every = module.named_parameters(remove_duplicate=False)
    return {name: p for name, p in every if not p.requires_grad and name not in aliases}


def make_optimizer(
    parameters: Iterable[nn.Parameter], arguments: argparse.Namespace
) -> torch.optim.Optimizer:
    """AdamW, or SGD without momentum, of torch.optim; decay on parameters of 2 and more dimensions
    or on all."""
    decayed, plain = [], []
    for parameter in parameters:
        on_it = arguments.weight_decay_on == "all" or parameter.dim() >= 2
        (decayed if on_it else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": arguments.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=arguments.lr)
    return torch.optim.AdamW(groups, lr=arguments.lr, betas=arguments.betas, eps=arguments.eps)


def global_norm(tensors: Iterable[torch.Tensor]) -> float:
    """Euclidean norm of all elements, summed in fp64."""
    return sum(float(t.double().square().sum()) for t in tensors) ** 0.5


def accumulate(
    loss_of: Callable, batch: Sequence[torch.Tensor], micro_batch: int, parameters: dict[str, nn.Parameter]
) -> float:
    """Sets gradients of the mean loss over a batch, the inputs in order; returns that loss. What the
    loss does not reach gets none, and no update.

    In pieces of `micro_batch` rows, weighted by their size: every row has as many labels.
    """
    for parameter in parameters.values():
        parameter.grad = None
    total = 0.0
    for pieces in zip(*(tensor.split(micro_batch) for tensor in batch), strict=True):
        share = len(pieces[0]) / len(batch[0])
        loss = loss_of(*pieces)
        (loss * share).backward()
        total += float(loss.detach()) * share
    return total


def batches(arguments: argparse.Namespace) -> Callable[[int], tuple[torch.Tensor, ...]]:
    """The inputs of a step, counted from 1, in the model's order."""
    if not arguments.data.is_dir():
        windows = schedule.Windows(arguments.data, arguments.data_dtype, arguments.batch, arguments.seq)

        def of_tokens(step: int) -> tuple[torch.Tensor, ...]:
            rows = torch.from_numpy(windows.at(step))
            return rows, rows

        return of_tokens
    if arguments.model.suffix == ".json" or arguments.model.is_dir():
        raise GalvatronError(f"{arguments.data} is a folder of named inputs, which a model.pt of these reads")
    _, description = archive.load(arguments.model)
    samples = schedule.Folder(arguments.data, description["inputs"], description["input_types"])
    return lambda step: tuple(torch.from_numpy(array) for array in samples.at(step, arguments.batch))


def train(module: nn.Module, loss_of: Callable, arguments: argparse.Namespace) -> list[dict]:
    """Runs the steps; writes log and gradients as asked; returns the log's rows."""
    parameters = unique_parameters(module)
    batch_at = batches(arguments)
    rate = schedule.LearningRate(
        arguments.lr, arguments.min_lr, arguments.lr_schedule, arguments.warmup, arguments.steps
    )
    optimizer = make_optimizer(parameters.values(), arguments)
    ties = archive.tied_names(module)
    rows = []
    for step in range(1, arguments.steps + 1):
        start = time.perf_counter()
        batch = batch_at(step)
        try:
            loss = accumulate(loss_of, batch, arguments.micro_batch or arguments.batch, parameters)
        except (IndexError, RuntimeError) as error:
            raise GalvatronError(
                f"step {step} failed: {str(error).strip().splitlines()[-1]} (largest value"
                f" {max(float(tensor.max()) for tensor in batch):g}); check --data, --data-dtype, --batch and --seq"
            ) from error
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        norm = global_norm(gradients.values())
        if arguments.dump_gradients and step <= (arguments.dump_steps or step):
            path = arguments.dump_gradients / GRADIENT_FILE.format(step)
            write_tensors(path, gradients, {"ties": json.dumps(ties), "step": str(step)})
        if arguments.clip_grad > 0:
            torch.nn.utils.clip_grad_norm_(parameters.values(), arguments.clip_grad)
        lr = rate.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        values = (step, loss, lr, norm, arguments.batch * arguments.seq / seconds, peak)
        rows.append(dict(zip(LOG_COLUMNS, values)))
        if not arguments.quiet:
            print(f"step {step}  loss {loss:.6f}  lr {lr:.3g}  grad norm {norm:.4g}", flush=True)
    if arguments.log:
        write_log(arguments.log, rows)
    if arguments.save:
        values = {**parameters, **frozen_parameters(module)}
        write_tensors(arguments.save, values, {"ties": json.dumps(ties), "format": "pt"})
    return rows


def write_log(path: Path, rows: Sequence[dict]) -> None:
    """CSV with 9 significant digits, enough to read every fp32 back exactly."""
    lines = [",".join(LOG_COLUMNS)]
    for row in rows:
        lines.append(",".join(_digits(row[column]) for column in LOG_COLUMNS))
    _write(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))


def _digits(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda temporary: save_file(contiguous, str(temporary), metadata))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    path = outputs.destination(path, "name another")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise GalvatronError(
            f"cannot write {path}: {error.strerror or error}; check the folder"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(module: nn.Module, path: Path) -> None:
    """Sets every parameter from a safetensors file; a tied one may stand under any of its names."""
    from safetensors.torch import load_file

    try:
        values = load_file(str(path))
    except Exception as error:
        raise GalvatronError(
            f"cannot read weights {path}: {first_line(error)}; check --weights"
        ) from None
    aliases = {name: group for group in archive.tied_names(module) for name in group}
    with torch.no_grad():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            stored = next((n for n in [name, *aliases.get(name, [])] if n in values), None)
            if stored is None:
                raise GalvatronError(f"{path} has no tensor for parameter {name}; check --weights")
            if values[stored].shape != parameter.shape:
                raise GalvatronError(
                    f"expects {name} of shape {list(parameter.shape)}, but {path} has"
                    f" {list(values[stored].shape)}; check --weights"
                )
            parameter.copy_(values[stored])


def materialise(module: nn.Module) -> None:
    """Gives the expanded parameters of a weightless archive memory of their own, ties kept."""
    real: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter.numel() > 1 and not any(parameter.stride()):
                key = parameter.data_ptr()
                if key not in real:
                    copy = parameter.detach().clone(memory_format=torch.contiguous_format)
                    real[key] = nn.Parameter(copy, requires_grad=parameter.requires_grad)
                setattr(owner, name, real[key])


def check_bounds(description: dict, arguments: argparse.Namespace) -> None:
    """Refuses sizes that the trace is not for."""
    sizes = {"batch": arguments.micro_batch or arguments.batch, "seq": arguments.seq}
    for bound in description["bounds"]:
        if sizes.get(bound["dimension"], bound["value"]) != bound["value"]:
            raise GalvatronError(
                f"expects --{bound['dimension']} {bound['value']}, the example's, but got {sizes[bound['dimension']]}:"
                f" {bound['place']} {bound['reason']}; pass it, or export another example"
            )


def load_model(arguments: argparse.Namespace) -> tuple[nn.Module, Callable]:
    """The module and its loss as a function of (input_ids, labels)."""
    from galvatron import tracing

    if arguments.model.suffix == ".json" or arguments.model.is_dir():
        from galvatron import huggingface

        with huggingface.quiet():
            config = huggingface.read_config(arguments.model)
            huggingface.choose_loss(config, arguments.model, "causal-lm")
            attention = arguments.attn or huggingface.default_attention(config)
            module = huggingface.build_random(config, attention, arguments.seed).train()
        loss_of = tracing.loss_function(module)
    else:
        module, description = archive.load(arguments.model)
        check_bounds(description, arguments)
        if description["weightless"]:
            if not arguments.weights:
                raise GalvatronError(
                    f"{arguments.model} has no weights; give --weights FILE.safetensors, for example"
                    " what a stage binary saved"
                )
            materialise(module)
        loss_of = module
    if arguments.weights:
        load_weights(module, arguments.weights)
    return module, loss_of


def _betas(text: str) -> tuple[float, float]:
    first, second = text.split(",")
    return float(first), float(second)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m galvatron.reference",
        description="Trains an exported module in PyTorch (fp32, CPU), with the stage binaries'"
        " options, log and gradient files, to compare them with.",
    )
    add = result.add_argument
    add("model", type=Path, help="model.pt of galvatron.export, or a transformers config.json")
    add("--data", type=Path, required=True, metavar="FILE", help="tokens, little-endian, no header; or a folder of named inputs")
    add("--data-dtype", default="u8", choices=tuple(schedule.DATA_TYPES), help="default: u8")
    add(
        "--batch",
        type=int,
        default=8,
        metavar="N",
        help="rows per step over all ranks (default: 8)",
    )
    add("--seq", type=int, default=64, metavar="N", help="tokens per row (default: 64)")
    add("--steps", type=int, default=20, metavar="N", help="default: 20")
    add(
        "--micro-batch", type=int, metavar="N", help="rows at a time, to save memory (default: all)"
    )
    add("--optimizer", default="adamw", choices=("adamw", "sgd"), help="default: adamw")
    add("--lr", type=float, default=1e-3, metavar="X", help="default: 1e-3")
    add(
        "--min-lr",
        type=float,
        default=0.0,
        metavar="X",
        help="rate of the last step with linear and cosine (default: 0)",
    )
    add(
        "--lr-schedule",
        default="constant",
        choices=("constant", "linear", "cosine"),
        help="default: constant",
    )
    add("--warmup", type=int, default=0, metavar="N", help="steps with lr * step / N (default: 0)")
    add(
        "--betas",
        type=_betas,
        default=(0.9, 0.999),
        metavar="A,B",
        help="AdamW's (default: 0.9,0.999)",
    )
    add("--eps", type=float, default=1e-8, metavar="X", help="AdamW's (default: 1e-8)")
    add("--weight-decay", type=float, default=0.0, metavar="X", help="default: 0")
    add(
        "--weight-decay-on",
        default="matrices",
        choices=("matrices", "all"),
        help="parameters of 2 and more dimensions, or all (default: matrices)",
    )
    add(
        "--clip-grad",
        type=float,
        default=0.0,
        metavar="X",
        help="largest global gradient norm; 0 = off (default)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of random weights and dropout (default: 0)",
    )
    add("--attn", choices=("sdpa", "eager"), help="with a config: attention of the module")
    add("--weights", type=Path, metavar="FILE", help="safetensors to start from")
    add("--save", type=Path, metavar="FILE", help="write the trained weights as safetensors")
    add(
        "--dump-gradients",
        type=Path,
        metavar="DIR",
        help="write step-000001.safetensors … before clipping",
    )
    add(
        "--dump-steps",
        type=int,
        metavar="N",
        help="gradients of the first N steps only (default: all)",
    )
    add("--log", type=Path, metavar="FILE", help="CSV: " + ",".join(LOG_COLUMNS))
    add("--threads", type=int, default=1, metavar="N", help="of PyTorch (default: 1)")
    add("--quiet", action="store_true", help="no line per step")
    add("--version", action="version", version=f"galvatron.reference {galvatron.__version__}")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        warnings.simplefilter("ignore")
        torch.set_num_threads(arguments.threads)
        torch.manual_seed(arguments.seed)
        module, loss_of = load_model(arguments)
        # Profiling would fuse differently from one step to the next.
        with torch.jit.optimized_execution(False):
            train(module, loss_of, arguments)
    except GalvatronError as error:
        print(f"galvatron.reference: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser().parse_args()
    from galvatron.reference import main as run

    sys.exit(run())
