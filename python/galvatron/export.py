"""Exports a training step's forward to TorchScript, for galvatron-import.

    python -m galvatron.export --config config.json -o model.pt
    galvatron.export.save(module, (input_ids, labels), "model.pt")

The archive holds the trace, parameters (real, or one zero expanded to each shape) and
`galvatron.json` (see galvatron/archive.py for its schema).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import galvatron
from galvatron.errors import GalvatronError, GalvatronWarning, first_line

if __name__ != "__main__":
    # A command line that only asks for help should not wait seconds for torch.
    import torch
    from torch import nn

    from galvatron.initialization import weightless  # part of this module's interface

DEFAULT_STD = 0.02


def save(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    path: str | os.PathLike,
    *,
    weightless: bool = False,
    init_std: float | None = None,
    attention: str | None = None,
    loss: str | None = None,
    seed: int | None = None,
    initializations: Mapping[str, object] | None = None,
) -> dict:
    """Traces `module` and writes it to `path`: in training mode, or each submodule in its own where one is.

    module          forward takes input_ids and labels and returns the mean loss (a float scalar, or
                    an object, dictionary or tuple with it). Parameters are fp32. A module built inside
                    `with galvatron.export.weightless():` has parameters without memory.
    example_inputs  (input_ids, labels), both int64 [batch, seq]; a dictionary with these keys will do. With
                    position_ids as third, rows hold several documents, each with positions from 0.
                    A dictionary with other names, types or shapes has any of forward's keyword arguments: int64 or float32, batch
                    first, of any rank; data then come from a folder with each of them (docs/inputs.md).
                    Only the trace uses them: shapes are chosen at import, as far as the module does not
                    compute with them in Python (docs/models.md).
                    In training, labels are a window's own tokens: forward shifts them, as models of
                    transformers do, or `galvatron-import --labels next` does, for modules whose loader
                    would.
    weightless      writes each parameter as one zero expanded to its shape, and how it is drawn.
    init_std        standard deviation of parameters that are not constant. Without it: what was
                    recorded inside `weightless()`, else 0.02.
    attention, loss, seed  recorded for the reader.
    initializations how parameters are drawn, by name, where the caller knows.

    Returns the contents of `galvatron.json`. Raises GalvatronError; nothing is half-written. Warns
    (GalvatronWarning) of lines that restrict the import.
    """
    from galvatron import adapters, archive, examples, places, tracing

    path = Path(path)
    archive.check_writable(path)
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise GalvatronError(
            f"expects an eager nn.Module, but got {type(module).__name__}; export the original"
        )
    inputs = _example(example_inputs)
    adapter = adapters.describe(module)
    are_named = isinstance(example_inputs, Mapping)
    drawn = _initializations(module, dict(initializations or {}), weightless, init_std)
    try:
        with tracing.expanded_parameters(module) if weightless else contextlib.nullcontext():
            found = examples.Examination(module, inputs, weightless).run()
            facts = {"attention": attention, "loss": loss, "weightless": weightless, "seed": seed}
            facts["counts_labels"] = are_named
            facts["bounds"] = [bound.to_json() for bound in found.bounds]
            facts["adapter"] = adapter
            description = archive.describe(module, drawn, inputs, facts)
            archive.write(found.trace, path, description)
    except GalvatronError:
        raise
    except Exception as error:  # the module's own forward may raise anything
        names = {id(part): name for name, part in module.named_modules()}
        shapes = {name: list(tensor.shape) for name, tensor in inputs.items()}
        if len(set(map(tuple, shapes.values()))) == 1:
            remedy = f"check that it runs on {' and '.join(shapes)} of shape {next(iter(shapes.values()))}"
        else:
            remedy = f"check that it runs on {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"
        if isinstance(error, TypeError) and "Tensor" in str(error):
            remedy += "; while a module is traced its sizes are tensors: int(x.shape[1]) is a number"
        place = places.of_traceback(error, names)
        where = f", in {place}" if place.file else ""
        raise GalvatronError(
            f"cannot trace {type(module).__name__}: {first_line(error)}{where}; {remedy}"
        ) from error
    for line in found.told():
        warnings.warn(line, GalvatronWarning, stacklevel=2)
    return description


def _example(inputs: Sequence[torch.Tensor] | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example by name, checked."""
    from galvatron.tracing import INPUTS, are_tokens

    if isinstance(inputs, Mapping):
        if set(inputs) in (set(INPUTS[:2]), set(INPUTS)):
            inputs = {name: inputs[name] for name in INPUTS if name in inputs}
        if not are_tokens(tuple(inputs)) or not _is_one_shape(inputs):
            _check_named(inputs)
            return dict(inputs)
    elif len(inputs) in (2, 3):
        inputs = dict(zip(INPUTS, inputs))
    else:
        raise GalvatronError(
            f"expects example inputs input_ids and labels, and position_ids or not, but got {len(inputs)}; give a"
            " dictionary of forward's keyword arguments for others"
        )
    _check_tokens(inputs)
    return inputs


def _is_one_shape(inputs: Mapping[str, torch.Tensor]) -> bool:
    tensors = list(inputs.values())
    return all(isinstance(t, torch.Tensor) and t.dtype == torch.int64 and t.dim() == 2 for t in tensors) and (
        len({t.shape for t in tensors}) == 1
    )


def _described(tensor: object) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__


def _check_tokens(inputs: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in inputs.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.int64 or tensor.dim() != 2:
            raise GalvatronError(f"expects example {name} to be int64 [batch, seq], but got {_described(tensor)}")
        if inputs["input_ids"].shape != tensor.shape:
            raise GalvatronError(
                f"expects input_ids and {name} of one shape, but got {list(inputs['input_ids'].shape)} and"
                f" {list(tensor.shape)}{'; the shift belongs inside the module' if name == 'labels' else ''}"
            )


def _check_named(inputs: Mapping[str, torch.Tensor]) -> None:
    if not inputs:
        raise GalvatronError("expects example inputs by the names of forward's keyword arguments, but got none")
    first = next(iter(inputs))
    for name, tensor in inputs.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise GalvatronError(f"expects names of forward's keyword arguments, but got {name!r}")
        is_data = isinstance(tensor, torch.Tensor) and tensor.dtype in (torch.int64, torch.float32) and tensor.dim() > 0
        if not is_data or 0 in tensor.shape:
            raise GalvatronError(
                f"expects example {name} to be int64 or float32, batch first, but got {_described(tensor)}"
            )
        if tensor.shape[0] != inputs[first].shape[0]:
            raise GalvatronError(
                f"expects one batch, but {first} has {inputs[first].shape[0]} samples and {name} {tensor.shape[0]}"
            )


def _initializations(
    module: nn.Module, drawn: dict, for_weightless: bool, std: float | None
) -> dict:
    """How each parameter is drawn; refuses what an archive of this kind could not be started from."""
    from galvatron.initialization import (
        INITIALIZATION_ATTRIBUTE,
        Distribution,
        Initialization,
        is_placeholder,
        measured,
        unknown,
    )

    result = {}
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise GalvatronError(
                f"buffer {name} is on the meta device, so its values are not known; build the module"
                " inside `with galvatron.export.weightless():` instead"
            )
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.dtype != torch.float32:
            remedy = "call module.float()" if parameter.is_floating_point() else "register it as a buffer"
            raise GalvatronError(f"expects parameter {name} to be float32, but got {parameter.dtype}; {remedy}")
        if parameter.is_meta and not for_weightless:
            raise GalvatronError(
                f"parameter {name} has no values; export it weightless, or build the module with weights"
            )
        known = drawn.get(name) or getattr(parameter, INITIALIZATION_ATTRIBUTE, None)
        if known is None and not is_placeholder(parameter):
            known = measured(parameter, std or DEFAULT_STD)
        if known is None:
            known = Initialization(unknown("was not seen being initialised"))
        replaceable = (
            known.distribution.kind != "constant" if known.is_known() else parameter.dim() > 1
        )
        if std is not None and not drawn and replaceable:
            known = Initialization(Distribution.make("normal", mean=0.0, std=std), known.ranges)
        if not known.is_known() and for_weightless:
            raise GalvatronError(
                f"parameter {name} {known.distribution.to_json().get('reason', 'is partly unknown')}, so it"
                " cannot be drawn at random; give an init std, build the module inside"
                " `with galvatron.export.weightless():`, or export its weights"
            )
        result[name] = known
    return result


def export_config(arguments: argparse.Namespace) -> dict:
    """What the command line does; returns the contents of `galvatron.json`."""
    from galvatron import adapters, archive, huggingface

    archive.check_writable(arguments.output)
    config = huggingface.read_config(arguments.config)
    if arguments.init_std is not None:
        huggingface.set_init_std(config, arguments.init_std)
    file = arguments.config / "config.json" if arguments.config.is_dir() else arguments.config
    loss = huggingface.choose_loss(config, file, arguments.loss)
    attention = arguments.attn or huggingface.default_attention(config, loss)
    recorded = huggingface.build_weightless(config, attention, loss)
    pretrained = huggingface.has_weights(arguments.config) and arguments.seed is None
    seed = None
    if arguments.weightless:
        module = recorded
    elif pretrained:
        module = huggingface.build_pretrained(config, attention, arguments.config, loss)
    else:
        seed = arguments.seed or 0
        module = huggingface.build_random(config, attention, seed, loss)
    if arguments.peft is not None:
        with weightless():
            recorded = adapters.apply(recorded, arguments.peft, with_weights=False)
        if arguments.weightless:
            module = recorded
        else:
            torch.manual_seed(seed or 0)
            module = adapters.apply(module, arguments.peft, with_weights=arguments.seed is None)
    names = arguments.inputs.split(",") if arguments.inputs else huggingface.LOSSES[loss][1]
    return save(
        module,
        huggingface.example(config, module, loss, names, arguments.batch, arguments.seq),
        arguments.output,
        weightless=arguments.weightless,
        attention=attention,
        loss=loss,
        seed=seed,
        initializations=huggingface.initializations(recorded),
    )


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m galvatron.export",
        description="Exports a transformers model, with its loss, to TorchScript for"
        " galvatron-import. For any other module: galvatron.export.save(module, example_inputs, path).",
    )
    add = result.add_argument
    add(
        "--config",
        type=Path,
        required=True,
        metavar="PATH",
        help="a transformers config.json, or a folder that has one; weights in the folder are exported too, unless --seed or --weightless is given",
    )
    add(
        "-o",
        "--output",
        type=Path,
        default=Path("model.pt"),
        metavar="FILE",
        help="archive to write (default: model.pt)",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="draw the weights at random from this seed, by the model's own rules (default: 0)",
    )
    add(
        "--weightless",
        action="store_true",
        help="write shapes and distributions instead of weights: a 70B model becomes a small file, and training starts from values that the runtime draws",
    )
    add(
        "--loss",
        metavar="NAME",
        help="the task, whose loss the model computes: causal-lm, masked-lm, seq2seq-lm, sequence-classification,"
        " token-classification, question-answering, image-classification, speech-seq2seq or regression (one float"
        " label); default: that of the class that the configuration names, else causal-lm",
    )
    add(
        "--inputs",
        metavar="A,B,...",
        help="what forward takes, by name, where it is not what the task usually has, as"
        " input_ids,attention_mask,labels",
    )
    add(
        "--peft",
        type=Path,
        metavar="FOLDER",
        help="an adapter of peft to be trained: a folder with adapter_config.json; weights in it are exported too, unless --seed or"
        " --weightless is given",
    )
    add(
        "--attn",
        choices=("sdpa", "eager"),
        help="attention as one operator (sdpa) or as products and a softmax (eager); default: sdpa"
        " where the model has it",
    )
    add(
        "--init-std",
        type=float,
        metavar="X",
        help="standard deviation from which the model's initialiser starts (default: the configuration's)",
    )
    add(
        "--batch",
        type=int,
        default=2,
        metavar="N",
        help="batch of the traced example (default: 2); binds the import only where the model computes"
        " with it in Python",
    )
    add(
        "--seq",
        type=int,
        default=16,
        metavar="N",
        help="tokens per row of the traced example (default: 16); binds the import as --batch does",
    )
    add("--version", action="version", version=f"galvatron.export {galvatron.__version__}")
    return result


def check_arguments(arguments: argparse.Namespace) -> None:
    from galvatron import huggingface

    if arguments.loss is not None and arguments.loss not in huggingface.LOSSES:
        raise GalvatronError(f"unknown loss {arguments.loss!r}; choose one of: {', '.join(huggingface.LOSSES)}")
    if arguments.batch < 1 or arguments.seq < 2:
        raise GalvatronError(
            f"expects an example of at least 1 x 2 tokens, but got {arguments.batch} x {arguments.seq};"
            " raise --batch or --seq"
        )
    if arguments.init_std is not None and arguments.init_std < 0:
        raise GalvatronError(f"expects --init-std to be at least 0, but got {arguments.init_std}")


def _show_warning(message: Warning, *rest: object, **named: object) -> None:
    print(f"galvatron.export: warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        check_arguments(arguments)
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", GalvatronWarning)
        warnings.showwarning = _show_warning
        from galvatron import huggingface

        with huggingface.quiet():
            description = export_config(arguments)
    except GalvatronError as error:
        print(f"galvatron.export: error: {error}", file=sys.stderr)
        return 1
    sizes = [_size(p["shape"]) for p in description["parameters"] if "tied_to" not in p]
    kind = "weightless" if arguments.weightless else "with weights"
    print(
        f"{arguments.output}: {len(sizes)} parameters, {sum(sizes):,} elements, {kind},"
        f" {arguments.output.stat().st_size:,} bytes"
    )
    return 0


def _size(shape: Sequence[int]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result


if __name__ == "__main__":
    # Parsing first, so that --help and --version are quick; then the importable module does the work.
    parser().parse_args()
    from galvatron.export import main as run

    sys.exit(run())
