"""Distributions come from each model's own initialiser, and agree with what it really draws."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import MODELS
from torch import nn

from galvatron import huggingface
from galvatron.initialization import (
    INITIALIZATION_ATTRIBUTE,
    Distribution,
    Initialization,
    unknown,
    weightless,
)

FAMILIES = sorted(path.stem for path in MODELS.glob("*.json"))


def recorded(make) -> dict[str, dict]:
    with weightless():
        module = make()
    return {
        name: getattr(p, INITIALIZATION_ATTRIBUTE).to_json()
        for name, p in module.named_parameters()
    }


def check(values: torch.Tensor, distribution: dict) -> None:
    """The values are plausible draws: moments within 6 standard errors."""
    kind, count = distribution["kind"], values.numel()
    if kind == "constant":
        assert bool((values == distribution["value"]).all())
    elif kind == "normal":
        std = distribution["std"]
        assert abs(float(values.mean()) - distribution["mean"]) < 6 * std / count**0.5
        assert abs(float(values.std()) / std - 1) < 6 / (2 * count) ** 0.5
    elif kind == "uniform":
        assert values.min() >= distribution["low"] and values.max() <= distribution["high"]
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_distributions_are_what_the_model_draws(family):
    config = huggingface.read_config(MODELS / f"{family}.json")
    attention = huggingface.default_attention(config)
    drawn = huggingface.initializations(huggingface.build_weightless(config, attention))
    model = huggingface.build_random(config, attention, seed=2)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    assert drawn.keys() == parameters.keys()
    for name, parameter in parameters.items():
        values = parameter.detach().reshape(-1)
        covered = torch.ones(len(values), dtype=torch.bool)
        for begin, end, distribution in drawn[name].ranges:
            check(values[begin:end], distribution.to_json())
            covered[begin:end] = False
        check(values[covered], drawn[name].distribution.to_json())


def test_scaled_residual_projections_of_gpt2():
    config = huggingface.read_config(MODELS / "gpt2.json")
    drawn = huggingface.initializations(huggingface.build_weightless(config, "sdpa"))
    scaled = Distribution.make("normal", mean=0.0, std=0.02 / math.sqrt(2 * 3))
    assert drawn["transformer.h.1.attn.c_proj.weight"].distribution == scaled
    assert drawn["transformer.h.1.mlp.c_proj.weight"].distribution == scaled
    plain = Distribution.make("normal", mean=0.0, std=0.02)
    assert drawn["transformer.h.1.mlp.c_fc.weight"].distribution == plain
    assert drawn["lm_head.weight"] is drawn["transformer.wte.weight"]


def test_padding_row_is_a_range_of_zeros():
    config = huggingface.read_config(MODELS / "opt.json")
    drawn = huggingface.initializations(huggingface.build_weightless(config, "sdpa"))
    assert drawn["model.decoder.embed_tokens.weight"].to_json() == {
        "kind": "normal",
        "mean": 0.0,
        "std": config.init_std,
        "ranges": [{"begin": 64, "end": 128, "distribution": {"kind": "constant", "value": 0.0}}],
    }


class Unusual(nn.Module):
    """One parameter for each way of initialising that the recorder follows."""

    def __init__(self) -> None:
        super().__init__()
        self.ones = nn.Parameter(torch.ones(4))
        self.full = nn.Parameter(torch.full((4,), 3.0))
        self.scaled = nn.Parameter(torch.randn(4, 5) * 0.5 + 1)
        self.truncated = nn.Parameter(torch.empty(4, 5))
        self.halved = nn.Parameter(torch.empty(4, 5))
        self.negated = nn.Parameter(torch.empty(4, 5))
        self.rows = nn.Parameter(torch.empty(4, 5))
        self.copied = nn.Parameter(torch.empty(4))
        self.computed = nn.Parameter(torch.empty(4))
        self.forgotten = nn.Parameter(torch.empty(4))
        with torch.no_grad():
            nn.init.trunc_normal_(self.truncated, std=0.1, a=-0.2, b=0.2)
            self.halved.normal_(0, 0.5).mul_(0.5)
            self.negated.uniform_(1, 3).mul_(-2).add_(1)
            self.rows.uniform_(0, 1)
            self.rows[1:3].fill_(7)
            self.rows[2].zero_()
            self.copied.copy_(torch.zeros(4))
            self.computed.copy_(torch.arange(4.0))


def test_ways_of_initialising():
    found = recorded(Unusual)
    assert found["ones"] == {"kind": "constant", "value": 1.0}
    assert found["full"] == {"kind": "constant", "value": 3.0}
    assert found["scaled"] == {"kind": "normal", "mean": 1.0, "std": 0.5}
    truncated = {"kind": "truncated_normal", "mean": 0.0, "std": 0.1, "low": -0.2, "high": 0.2}
    assert found["truncated"] == truncated
    assert found["halved"] == {"kind": "normal", "mean": 0.0, "std": 0.25}
    assert found["negated"] == {"kind": "uniform", "low": -5.0, "high": -1.0}
    ranges = [(5, 10, 7.0), (10, 15, 0.0)]
    assert found["rows"]["ranges"] == [
        {"begin": b, "end": e, "distribution": {"kind": "constant", "value": v}}
        for b, e, v in ranges
    ]
    assert found["copied"] == {"kind": "constant", "value": 0.0}
    assert found["computed"] == {"kind": "unknown", "reason": "is copied from computed values"}
    assert found["forgotten"] == {"kind": "unknown", "reason": "is never initialised"}


def test_shared_parameters_stay_shared():
    def make():
        module = nn.Module()
        module.a, module.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        module.b.weight = module.a.weight
        shared = nn.Parameter(torch.zeros(2))
        module.c, module.d = shared, shared
        return module

    with weightless():
        module = make()
    assert module.a.weight is module.b.weight and module.c is module.d
    assert module.c.is_meta


def test_overlapping_ranges_are_cut():
    state = Initialization(unknown("x"))
    one, two = (Distribution.make("constant", value=v) for v in (1.0, 2.0))
    state.write(0, 10, 10, Distribution.make("normal", mean=0.0, std=1.0))
    state.write(2, 8, 10, one)
    state.write(4, 6, 10, two)
    assert state.ranges == [(2, 4, one), (4, 6, two), (6, 8, one)]
    state.write(0, 10, 10, one)
    assert state.ranges == [] and state.distribution == one


def test_patches_are_undone_after_an_error():
    register, truncated = nn.Module.register_parameter, nn.init.trunc_normal_
    with pytest.raises(ZeroDivisionError):
        with weightless():
            1 / 0
    assert nn.Module.register_parameter is register and nn.init.trunc_normal_ is truncated
    assert not nn.Linear(2, 2).weight.is_meta
