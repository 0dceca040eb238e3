"""`galvatron.json`, the extra file of an exported archive, and writing the archive atomically.

Schema, version 2:

    format_version 2; galvatron, torch, transformers (null when not used): versions
    module_class   for messages only
    attention      "sdpa" | "eager" | null
    loss           "causal-lm" | null (the module's own)
    weightless     whether parameters are one zero expanded to their shape
    seed           of the weights exported; null when weightless or pretrained
    prefix         what stands before every exported parameter name in the trace; always ""
    training       true: dropout is in the trace with its probability
    inputs         names, in order: ["input_ids", "labels"], or with "position_ids"; or others of forward's
    input_types    [{"dtype": "int64" | "float32", "shape"}] of these in the trace, batch first
    counts_labels  whether data may say of any label that it does not count (-100), as the example was given by name
    example        {"batch", "seq"} of the trace; seq is the length of input_ids, 1 where there are none
    bounds         [{"dimension": "batch" | "seq" | "NAME[DIM]", "value", "place", "reason"}]: sizes that an import must
                   have; NAME[DIM]: of an input, those that seq is not.
                   Sizes at which Python would have computed another value or taken another branch are checked
                   in the trace itself: the loss is on condition of `aten::_functional_assert_async`
    parameters     [{"name", "shape", "dtype", "requires_grad", "distribution", "tied_to"?}]
    ties           [[first name, other names…]] of parameters with one storage
    buffers        [{"name", "shape", "dtype", "persistent"}]
    config         the transformers configuration, as config.json has it; null for other modules

A distribution is {"kind": "constant", "value"} | {"kind": "normal", "mean", "std"} | {"kind":
"uniform", "low", "high"} | {"kind": "truncated_normal", "mean", "std", "low", "high"} | {"kind":
"unknown", "reason"}, and has "ranges": [{"begin", "end", "distribution"}] where row-major elements
[begin, end) differ. "unknown" occurs only in archives with weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

import galvatron
from galvatron import outputs
from galvatron.errors import GalvatronError, first_line
from galvatron.initialization import Initialization

FORMAT_VERSION = 2
EXTRA_FILE = "galvatron.json"


def describe(
    module: nn.Module,
    initializations: dict[str, Initialization],
    inputs: Mapping[str, torch.Tensor],
    facts: dict[str, object],
) -> dict:
    """The contents of `galvatron.json`. `initializations` has an entry for each parameter name."""
    transformers = sys.modules.get("transformers")
    ties = tied_names(module)
    first = {name: names[0] for names in ties for name in names[1:]}
    return {
        "format_version": FORMAT_VERSION,
        "galvatron": galvatron.__version__,
        "torch": torch.__version__,
        "transformers": getattr(transformers, "__version__", None),
        "module_class": f"{type(module).__module__}.{type(module).__qualname__}",
        **facts,
        "prefix": "",
        "training": True,
        "inputs": list(inputs),
        "input_types": [
            {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
            for tensor in inputs.values()
        ],
        "example": {"batch": next(iter(inputs.values())).shape[0], "seq": _length(inputs)},
        "parameters": [
            {
                "name": name,
                "shape": list(parameter.shape),
                "dtype": str(parameter.dtype).removeprefix("torch."),
                "requires_grad": parameter.requires_grad,
                "distribution": initializations[name].to_json(),
                **({"tied_to": first[name]} if name in first else {}),
            }
            for name, parameter in module.named_parameters(remove_duplicate=False)
        ],
        "ties": ties,
        "buffers": [
            {
                "name": name,
                "shape": list(buffer.shape),
                "dtype": str(buffer.dtype).removeprefix("torch."),
                "persistent": _is_persistent(module, name),
            }
            for name, buffer in module.named_buffers(remove_duplicate=False)
        ],
        "config": configuration(module),
    }


def _length(inputs: Mapping[str, torch.Tensor]) -> int:
    tokens = inputs.get("input_ids")
    return tokens.shape[1] if tokens is not None and tokens.dim() == 2 else 1


def configuration(module: nn.Module) -> dict | None:
    """What `save_pretrained` would write as config.json of a module of transformers; else None."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(module, transformers.PreTrainedModel):
        return None
    values = json.loads(module.config.to_json_string())
    return values | {"architectures": [type(module).__name__]}


def tied_names(module: nn.Module) -> list[list[str]]:
    """Groups of names of one parameter, in the module's order; only groups of two and more.

    By storage, since a loaded archive may give one storage two tensor objects.
    """
    groups: dict[tuple, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        key = id(parameter) if parameter.is_meta else parameter.data_ptr()
        groups.setdefault((key, tuple(parameter.shape)), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _is_persistent(module: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return leaf not in module.get_submodule(owner)._non_persistent_buffers_set


def check_writable(path: Path) -> None:
    """Raises before any work where the archive could not be written."""
    with _beside(path):
        pass


def write(traced: torch.jit.ScriptModule, path: Path, description: dict) -> None:
    """Writes the archive beside its final name, then renames it: never a half-written file."""
    text = json.dumps(description, indent=1)
    with _beside(path) as (temporary, final):
        try:
            with _no_advice():
                torch.jit.save(traced, str(temporary), _extra_files={EXTRA_FILE: text})
            os.replace(temporary, final)
        except (OSError, RuntimeError) as error:
            raise GalvatronError(
                f"cannot write {path}: {first_line(error)}; check the folder and its free space"
            ) from None


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """A file of the same name in a temporary folder, removed in the end, beside the file that `path` leads to; and that.

    The same name because an archive repeats it inside: equal exports are equal files.
    """
    final = outputs.destination(path, "give a file name with -o")
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=final.parent)
    except OSError as error:
        raise GalvatronError(
            f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable"
        ) from None
    try:
        yield Path(folder) / path.name, final
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """TorchScript is deprecated upstream, but shipped; a user of this package cannot act on that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def load(path: str | Path) -> tuple[torch.jit.ScriptModule, dict]:
    """Reads an archive written by `galvatron.export`: the traced module, its numbers narrowed, and `galvatron.json`."""
    extra = {EXTRA_FILE: ""}
    try:
        with _no_advice():
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError, OSError) as error:
        raise GalvatronError(
            f"cannot read {path}: {first_line(error)}; expects an archive of galvatron.export"
        ) from None
    if not extra[EXTRA_FILE]:
        raise GalvatronError(f"{path} has no {EXTRA_FILE}; export it with galvatron.export")
    description = json.loads(extra[EXTRA_FILE])
    if description.get("format_version") != FORMAT_VERSION:
        raise GalvatronError(
            f"{path} has format version {description.get('format_version')}, but this package reads"
            f" {FORMAT_VERSION}; export again"
        )
    narrow_numbers(module)
    return module, description


def narrow_numbers(module: torch.jit.ScriptModule) -> None:
    """A Python number that met a tensor is a float64 tensor in a trace, and would make float64 of integers; in the
    module it makes the default type."""
    for owner in module.modules():
        if not hasattr(owner, "forward"):
            continue
        for node in owner.graph.findAllNodes("prim::Constant", True):
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                number = node.t("value")
                if number.dtype == torch.float64 and number.dim() == 0:
                    node.t_("value", number.to(torch.get_default_dtype()))
