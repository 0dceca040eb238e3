"""Builds models from transformers configurations, with the loss that a task has there.

Nothing here knows a model by name: the configuration and the task's auto class say which class it belongs to, the
class says how it is initialised, and the module is used unmodified.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from galvatron.errors import GalvatronError, GalvatronWarning, first_line
from galvatron.initialization import INITIALIZATION_ATTRIBUTE, Initialization, weightless

# The auto class of each loss, and the inputs that its forward takes.
LOSSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "causal-lm": ("AutoModelForCausalLM", ("input_ids", "labels")),
    "masked-lm": ("AutoModelForMaskedLM", ("input_ids", "labels")),
    "seq2seq-lm": ("AutoModelForSeq2SeqLM", ("input_ids", "labels")),
    "sequence-classification": ("AutoModelForSequenceClassification", ("input_ids", "labels")),
    "token-classification": ("AutoModelForTokenClassification", ("input_ids", "labels")),
    "question-answering": ("AutoModelForQuestionAnswering", ("input_ids", "start_positions", "end_positions")),
    "image-classification": ("AutoModelForImageClassification", ("pixel_values", "labels")),
    "speech-seq2seq": ("AutoModelForSpeechSeq2Seq", ("input_features", "labels")),
    "regression": ("AutoModelForSequenceClassification", ("input_ids", "labels")),
}
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


def read_config(path: Path):
    """A transformers configuration from a JSON file, or from `config.json` of a folder."""
    from transformers import AutoConfig

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
    return config


def auto_class(loss: str):
    import transformers

    return getattr(transformers, LOSSES[loss][0])


def choose_loss(config, file: Path, asked: str | None) -> str:
    """The loss to export: the one asked for, else that of the class that `architectures` names, else causal-lm."""
    named = set(getattr(config, "architectures", None) or ())
    of_class = [loss for loss in LOSSES if named & _classes(loss, config)]
    loss = asked or (of_class or ["causal-lm"])[0]
    is_decoder = loss != "causal-lm" or not config.is_encoder_decoder
    if not is_decoder or type(config) not in auto_class(loss)._model_mapping.keys():
        what = "causal language model" if loss == "causal-lm" else f"model for {loss}"
        others = [other for other in LOSSES if type(config) in auto_class(other)._model_mapping.keys() and other != loss]
        known = f" (it has {', '.join(others)})" if others else ""
        raise GalvatronError(
            f"{file}: transformers has no {what} for model_type {config.model_type!r}{known}; give another --loss, or"
            " export the module with its own loss through galvatron.export.save"
        )
    if loss == "regression":
        config.num_labels, config.problem_type = 1, "regression"
    return loss


def _classes(loss: str, config) -> set[str]:
    mapping = auto_class(loss)._model_mapping
    if type(config) not in mapping.keys():
        return set()
    found = mapping[type(config)]
    return {kind.__name__ for kind in (found if isinstance(found, (tuple, list)) else [found])}


def example(config, module: nn.Module, loss: str, names: Sequence[str], batch: int, seq: int):
    """Inputs to trace with: a dictionary, or a tuple of tokens and labels where the loss is that of the next token."""
    tokens = torch.arange(batch * seq).reshape(batch, seq)
    tokens = tokens % _vocabulary(config)
    if loss == "causal-lm" and tuple(names) == LOSSES[loss][1]:
        return tokens, tokens.clone()
    return {name: _input(config, module, loss, name, tokens) for name in names}


def _vocabulary(config) -> int:
    return getattr(config.get_text_config(), "vocab_size", None) or 2


def _input(config, module: nn.Module, loss: str, name: str, tokens: torch.Tensor) -> torch.Tensor:
    batch, seq = tokens.shape
    generator = torch.Generator().manual_seed(0)
    if name in ("input_ids", "decoder_input_ids"):
        return tokens.clone()
    if name in ("attention_mask", "decoder_attention_mask"):
        lengths = torch.arange(batch) % max(seq // 2, 1)
        return (torch.arange(seq) < seq - lengths[:, None]).long()
    if name in ("token_type_ids", "position_ids"):
        return (torch.arange(seq) if name == "position_ids" else torch.zeros(seq).long()).expand(batch, seq).clone()
    if name in ("start_positions", "end_positions"):
        return torch.arange(batch) % seq
    if name == "labels" and loss == "regression":
        return torch.randn(batch, generator=generator)
    if name == "labels" and loss in ("sequence-classification", "image-classification"):
        return torch.arange(batch) % config.num_labels
    if name == "labels":
        return tokens % config.num_labels if loss == "token-classification" else tokens.clone()
    if name == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return torch.randn(batch, getattr(config, "num_channels", 3), height, width, generator=generator)
    if name == "input_features" and hasattr(config, "num_mel_bins"):
        frames = 2 * getattr(config, "max_source_positions", seq)
        return torch.randn(batch, config.num_mel_bins, frames, generator=generator)
    raise GalvatronError(
        f"cannot make an example of the input {name} for a {config.model_type} model; give one with"
        f" galvatron.export.save({type(module).__name__}, {{{name!r}: ...}}, path)"
    )


def has_weights(path: Path) -> bool:
    return path.is_dir() and any(file for glob in WEIGHT_FILES for file in path.glob(glob))


def set_init_std(config, std: float) -> None:
    """Replaces the standard deviation from which the model's initialiser starts."""
    for key in ("initializer_range", "init_std"):
        if key == "initializer_range" or hasattr(config, key):
            setattr(config, key, std)


def default_attention(config, loss: str = "causal-lm") -> str:
    """ "sdpa" where the model's class has it, else "eager" (Gemma 2 caps its logits, for one)."""
    model_class = auto_class(loss)._model_mapping[type(config)]
    if isinstance(model_class, (tuple, list)):
        model_class = model_class[0]
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def build_weightless(config, attention: str, loss: str = "causal-lm") -> nn.Module:
    """The model in fp32 with parameters that take no memory and know their initialisation."""
    with weightless():
        return _build(config, attention, loss)


def build_random(config, attention: str, seed: int, loss: str = "causal-lm") -> nn.Module:
    """The model in fp32, initialised by its own rules from `seed`."""
    torch.manual_seed(seed)
    return _build(config, attention, loss)


def build_pretrained(config, attention: str, folder: Path, loss: str = "causal-lm") -> nn.Module:
    """The model in fp32 with the folder's weights. What they lack must be a task's head, of which nothing is there: it
    is drawn, and named in a warning."""
    with quiet():
        try:
            torch.manual_seed(0)
            model, info = auto_class(loss).from_pretrained(
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
    body = f"{model.base_model_prefix}."
    if missing and loss != "causal-lm" and not any(name.startswith(body) for name in missing):
        warnings.warn(
            f"the weights in {folder} have no head for {loss}: {', '.join(missing)} drawn at random",
            GalvatronWarning,
            stacklevel=2,
        )
    elif missing:
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


def _build(config, attention: str, loss: str) -> nn.Module:
    with quiet():
        try:
            return auto_class(loss).from_config(
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
