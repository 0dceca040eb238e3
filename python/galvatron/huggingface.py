"""Builds causal language models from transformers configurations.

Nothing here knows a model by name: the configuration says which class it belongs to, the class says
how it is initialised, and the module is used unmodified.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from galvatron.errors import GalvatronError, first_line
from galvatron.initialization import INITIALIZATION_ATTRIBUTE, Initialization, weightless

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


def read_config(path: Path):
    """A transformers configuration from a JSON file, or from `config.json` of a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise GalvatronError(
            f"cannot read {file}: {error.strerror}; give a config.json or its folder"
        ) from None
    except ValueError as error:
        raise GalvatronError(
            f"{file} is not JSON: {first_line(error)}; correct or download it again"
        ) from None
    kind = values.pop("model_type", None) if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise GalvatronError(f'{file} has no "model_type"; give a transformers configuration')
    with quiet():
        try:
            config = AutoConfig.for_model(kind, **values)
        except ValueError as error:
            if "Unrecognized model identifier" in str(error):
                raise GalvatronError(
                    f"{file}: transformers does not know model_type {kind!r}; export the module with"
                    " galvatron.export.save"
                ) from None
            raise GalvatronError(
                f"{file}: {first_line(error)}; correct the configuration"
            ) from None
        except Exception as error:  # a configuration class's own validation
            raise GalvatronError(
                f"{file}: {first_line(error)}; correct the configuration"
            ) from None
    if config.is_encoder_decoder or type(config) not in AutoModelForCausalLM._model_mapping.keys():
        raise GalvatronError(
            f"{file}: transformers has no causal language model for model_type {kind!r}; export the"
            " module with its own loss through galvatron.export.save"
        )
    return config


def has_weights(path: Path) -> bool:
    return path.is_dir() and any(file for glob in WEIGHT_FILES for file in path.glob(glob))


def set_init_std(config, std: float) -> None:
    """Replaces the standard deviation from which the model's initialiser starts."""
    for key in ("initializer_range", "init_std"):
        if key == "initializer_range" or hasattr(config, key):
            setattr(config, key, std)


def default_attention(config) -> str:
    """ "sdpa" where the model's class has it, else "eager" (Gemma 2 caps its logits, for one)."""
    from transformers import AutoModelForCausalLM

    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def build_weightless(config, attention: str) -> nn.Module:
    """The model in fp32 with parameters that take no memory and know their initialisation."""
    with weightless():
        return _build(config, attention)


def build_random(config, attention: str, seed: int) -> nn.Module:
    """The model in fp32, initialised by its own rules from `seed`."""
    torch.manual_seed(seed)
    return _build(config, attention)


def build_pretrained(config, attention: str, folder: Path) -> nn.Module:
    """The model in fp32 with the folder's weights, all of which must be there."""
    from transformers import AutoModelForCausalLM

    with quiet():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation=attention,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise GalvatronError(
                f"cannot load the weights in {folder}: {first_line(error)}; pass --weightless or --seed to"
                " start from random values"
            ) from None
    missing = sorted(info["missing_keys"]) + [str(k) for k in info.get("mismatched_keys", ())]
    if missing:
        raise GalvatronError(
            f"the weights in {folder} lack {missing[0]} ({len(missing)} in all); complete them, or pass"
            " --seed to start from random values"
        )
    return model


def initializations(module: nn.Module) -> dict[str, Initialization]:
    """What `weightless()` recorded, by parameter name."""
    return {
        name: getattr(parameter, INITIALIZATION_ATTRIBUTE)
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if hasattr(parameter, INITIALIZATION_ATTRIBUTE)
    }


def _build(config, attention: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    with quiet():
        try:
            return AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attention
            )
        except Exception as error:  # a model's constructor may fail in any way on a bad config
            attention_is_missing = "attention implementation" in str(error)
            remedy = "try --attn eager" if attention_is_missing else "correct the configuration"
            raise GalvatronError(
                f"cannot build a {config.model_type} model: {first_line(error)}; {remedy}"
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' advice about training and token ids: errors come as exceptions."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
