"""Unmodified modules that are not one stack of decoders, each with inputs by name and some batches of data.

Labels are unequal in number and padding stands on either side; dropout is off, so that PyTorch can be the referee.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import transformers
from torch import nn
from torch.nn import functional

BATCH, SEQ, TARGETS, WORDS, SAMPLES = 8, 12, 10, 96, 24
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": WORDS,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
VISION = {key: value for key, value in SMALL.items() if key not in ("vocab_size", "max_position_embeddings")}
TWO_TOWERS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": WORDS,
    "dropout": 0.0,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": WORDS, "dropout_rate": 0.0}
LLAMA = SMALL | {"num_key_value_heads": 2}


@dataclasses.dataclass(frozen=True)
class Named:
    """`build` makes the module, `data` all samples of each input, of which the example is the first batch. `zero`: parameters whose
    gradients are 0 in exact arithmetic, and rounding in any other: a softmax over positions does not see what shifts all of them.
    """

    build: Callable[[], nn.Module]
    data: Callable[[], dict[str, torch.Tensor]]
    zero: tuple[str, ...] = ()


def ids(length: int = SEQ) -> torch.Tensor:
    return torch.randint(3, WORDS, (SAMPLES, length))


def classes(count: int = 4) -> torch.Tensor:
    return torch.randint(0, count, (SAMPLES,))


def padding(left: bool = False) -> torch.Tensor:
    """Masks of rows of three lengths and more."""
    lengths = SEQ - torch.arange(SAMPLES) % 5
    mask = (torch.arange(SEQ) < lengths[:, None]).long()
    return mask.flip(1) if left else mask


def masked_words() -> dict[str, torch.Tensor]:
    """Some words are to be predicted, in each row another number of them."""
    words = ids()
    labels = torch.where(torch.rand(words.shape) < 0.3, words, -100)
    labels[:, 0] = words[:, 0]
    return {"input_ids": words, "attention_mask": padding(), "labels": labels}


def padded_words(left: bool) -> dict[str, torch.Tensor]:
    words, mask = ids(), padding(left)
    return {"input_ids": words, "attention_mask": mask, "labels": words.masked_fill(mask == 0, -100)}


def translated() -> dict[str, torch.Tensor]:
    labels = ids(TARGETS)
    labels[torch.arange(TARGETS) >= TARGETS - torch.arange(SAMPLES)[:, None] % 4] = -100
    return {"input_ids": ids(), "attention_mask": padding(), "labels": labels}


def images(size: int = 16) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(SAMPLES, 3, size, size), "labels": classes()}


class Multilabel(nn.Module):
    """Several classes at once, and a number beside them: binary cross-entropy and a squared error, added."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.block = nn.Embedding(WORDS, 16), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.head, self.size = nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, tokens: torch.Tensor, kinds: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
        x = self.block(self.table(tokens)).mean(1)
        loss = functional.binary_cross_entropy_with_logits(self.head(x), kinds)
        return loss + functional.mse_loss(self.size(x).squeeze(-1), amount)


class Weighted(nn.Module):
    """A mean over weights that are data: its divisor is that of the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.middle, self.head = nn.Embedding(WORDS, 16), nn.Linear(16, 16), nn.Linear(16, WORDS)

    def forward(self, tokens: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.head(torch.relu(self.middle(self.table(tokens))))
        losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return (losses * weight).sum() / weight.sum()


class Sound(nn.Module):
    """Convolutions with strides, padding, dilation and groups, in one and in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 16, 5, stride=2, padding=2), nn.Conv1d(16, 16, 3, dilation=2, groups=4)
        self.flat, self.head = nn.Conv2d(1, 8, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Linear(8, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, waves: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.second(functional.gelu(self.first(waves))))
        x = self.pool(torch.relu(self.flat(x.unsqueeze(1)))).flatten(1)
        return functional.cross_entropy(self.head(x), labels)


def _bert(kind: type, **changes) -> Callable[[], nn.Module]:
    return lambda: kind(transformers.BertConfig(**(SMALL | changes)))


ZOO: dict[str, Named] = {
    "bert-masked": Named(_bert(transformers.BertForMaskedLM), masked_words),
    "bert-classes": Named(
        _bert(transformers.BertForSequenceClassification, num_labels=4, attn_implementation="eager"),
        lambda: {"input_ids": ids(), "attention_mask": padding(), "labels": classes()},
    ),
    "bert-regression": Named(
        _bert(transformers.BertForSequenceClassification, num_labels=1),
        lambda: {"input_ids": ids(), "labels": torch.randn(SAMPLES)},
    ),
    "bert-answers": Named(
        _bert(transformers.BertForQuestionAnswering),
        lambda: {
            "input_ids": ids(),
            "start_positions": torch.randint(0, SEQ, (SAMPLES,)),
            "end_positions": torch.randint(0, SEQ, (SAMPLES,)),
        },
        zero=("qa_outputs.bias", "bert.encoder.layer.1.output.LayerNorm.bias"),
    ),
    "roberta-tokens": Named(
        lambda: transformers.RobertaForTokenClassification(transformers.RobertaConfig(**SMALL, num_labels=4)),
        lambda: {"input_ids": ids(), "labels": torch.randint(0, 4, (SAMPLES, SEQ))},
    ),
    "llama-left": Named(
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)), lambda: padded_words(left=True)
    ),
    "llama-left-eager": Named(
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, attn_implementation="eager")),
        lambda: padded_words(left=True),
    ),
    "t5": Named(
        lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5, decoder_start_token_id=0)),
        translated,
    ),
    "bart": Named(
        lambda: transformers.BartForConditionalGeneration(
            transformers.BartConfig(**TWO_TOWERS, max_position_embeddings=64)
        ),
        translated,
    ),
    "vit": Named(
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(**VISION, image_size=16, patch_size=4, num_labels=4)
        ),
        images,
    ),
    "swin": Named(
        lambda: transformers.SwinForImageClassification(
            transformers.SwinConfig(
                image_size=16,
                patch_size=2,
                embed_dim=16,
                depths=[2, 2],
                num_heads=[2, 4],
                window_size=4,
                num_labels=4,
                drop_path_rate=0.0,
            )
        ),
        images,
    ),
    "whisper": Named(
        lambda: transformers.WhisperForConditionalGeneration(
            transformers.WhisperConfig(
                **TWO_TOWERS,
                num_mel_bins=8,
                max_source_positions=8,
                max_target_positions=32,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            )
        ),
        lambda: {"input_features": torch.randn(SAMPLES, 8, 16), "labels": ids(TARGETS)},
    ),
    "multilabel": Named(
        Multilabel,
        lambda: {
            "tokens": ids(),
            "kinds": torch.randint(0, 2, (SAMPLES, 4)).float(),
            "amount": torch.randn(SAMPLES),
        },
    ),
    "weighted": Named(
        Weighted, lambda: {"tokens": ids(), "weight": torch.rand(SAMPLES, SEQ), "labels": ids()}
    ),
    "sound": Named(Sound, lambda: {"waves": torch.randn(SAMPLES, 4, 33), "labels": classes()}),
}
