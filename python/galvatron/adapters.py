"""Adapters of `peft`: applied to a model before it is exported, and described for the checkpoints that hold them.

peft's modules are exported as any other: what it froze is frozen. Beside that a checkpoint gets a folder `adapter` of peft's own
form, for which the archive says which of its tensors are those of the module, and what adapter_config.json says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from galvatron.errors import GalvatronError, first_line

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def describe(module: nn.Module) -> dict | None:
    """`{"config": …, "tensors": {key of the adapter's file: name of a parameter or buffer}}`; None for a module without adapter.

    Raises GalvatronError where peft could not load what would be written.
    """
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(module, peft.PeftModel):
        _check_types(module)
        return None
    _check_types(module)
    active = [module.active_adapter] if isinstance(module.active_adapter, str) else list(module.active_adapter)
    if len(module.peft_config) != 1 or len(active) != 1:
        raise GalvatronError(
            f"the module has the adapters {', '.join(module.peft_config)}, but one is exported at a time; load the others"
            " into modules of their own, or merge them (add_weighted_adapter, merge_and_unload)"
        )
    config = module.peft_config[active[0]]
    if getattr(config, "is_prompt_learning", False):
        raise GalvatronError(
            f"adapters of type {config.peft_type.value} stand in the prompt and are no part of the module's layers, which is"
            " unsupported; use LoRA or another tuner of layers"
        )
    # Tensors that tell who they are, taken through peft's own rules for names.
    state = {name: torch.full((1,), float(number)) for number, name in enumerate(module.state_dict())}
    names = list(state)
    kept = peft.get_peft_model_state_dict(module, state_dict=state, adapter_name=active[0], save_embedding_layers=False)
    values = config.to_dict() | {"inference_mode": True}
    return {
        "config": json.loads(json.dumps(values, default=lambda value: sorted(value) if isinstance(value, set) else str(value))),
        "tensors": {key: names[int(value.item())] for key, value in sorted(kept.items())},
    }


def _check_types(module: nn.Module) -> None:
    for name, parameter in _quantised(module):
        raise GalvatronError(
            f"parameter {name} is of {type(parameter).__module__}.{type(parameter).__name__}, a quantised type, which is"
            " unsupported; load the base in 16 or 32 bits"
        )


def _quantised(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in module.named_parameters():
        if type(parameter) is not nn.Parameter and type(parameter).__module__.split(".")[0] != "torch":
            yield name, parameter


def has_weights(folder: Path) -> bool:
    return any((folder / name).exists() for name in WEIGHTS)


def apply(module: nn.Module, folder: Path, with_weights: bool) -> nn.Module:
    """The module with the adapter of a folder, ready to be trained: its weights where it has any and they are asked for, else as
    peft draws them."""
    try:
        import peft
    except ImportError:
        raise GalvatronError("an adapter needs the package peft; install it (pip install peft)") from None
    if not (folder / CONFIG).is_file():
        raise GalvatronError(f"{folder} is no adapter: it has no {CONFIG}; name a folder that save_pretrained wrote")
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = False
        result = peft.get_peft_model(module, config)
        if with_weights and has_weights(folder):
            _load(peft, result, folder)
    except GalvatronError:
        raise
    except Exception as error:  # peft raises what it likes
        raise GalvatronError(
            f"{folder}: peft cannot apply this adapter to {type(module).__name__}: {first_line(error)}; is it of another base?"
        ) from error
    return result


def _load(peft, module: nn.Module, folder: Path) -> None:
    weights = peft.load_peft_weights(str(folder), device="cpu")
    result = peft.set_peft_model_state_dict(module, weights, ignore_mismatched_sizes=False)
    own = describe(module)["tensors"]
    if unknown := sorted(set(weights) - set(own)) or list(getattr(result, "unexpected_keys", ())):
        raise GalvatronError(
            f"{folder}: the adapter has {unknown[0]}, which the model has not; it was trained on another base, or with another"
            f" {CONFIG}"
        )
    if missing := sorted(set(own) - set(weights)):
        raise GalvatronError(f"{folder}: the adapter lacks {missing[0]}; save it again")
