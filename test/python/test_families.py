"""Every committed configuration, with both kinds of attention: it traces, reloads to the same loss
and gradients as the original, does not depend on the example's sizes, and trains."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import MODELS

from galvatron import archive, export, huggingface, tracing

FAMILIES = sorted(path.stem for path in MODELS.glob("*.json"))
EAGER_ONLY = ("bloom", "gemma2")
CASES = [(f, a) for f in FAMILIES for a in ("sdpa", "eager") if a == "eager" or f not in EAGER_ONLY]


def canonical(graph: torch.Graph) -> str:
    """The graph's text without source lines, type suffixes and value names."""
    names: dict[str, str] = {}
    text = re.sub(r"#.*|___torch_mangle_\d+\.", "", str(graph))
    return re.sub(r"%[\w.]+", lambda m: names.setdefault(m.group(), f"%{len(names)}"), text)


def test_all_thirteen_families_are_there():
    wanted = "gpt2 llama qwen2 qwen3 gpt_neox phi opt gemma2 mistral stablelm cohere olmo2 falcon bloom"
    assert set(wanted.split()) <= set(FAMILIES)


@pytest.mark.parametrize("family,attention", CASES)
def test_loaded_trace_is_the_model(family, attention, tmp_path, example):
    config = huggingface.read_config(MODELS / f"{family}.json")
    model = huggingface.build_random(config, attention, seed=5)
    export.save(model, example, tmp_path / "model.pt", attention=attention)
    loaded, _ = archive.load(tmp_path / "model.pt")

    generator = torch.Generator().manual_seed(11)  # other sizes than the example's
    ids = torch.randint(0, 256, (3, 24), generator=generator)
    model.train()
    torch.manual_seed(1)  # dropout
    expected = tracing.loss_function(model)(ids, ids)
    torch.manual_seed(1)
    actual = loaded(ids, ids)
    assert actual.shape == ()
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)

    expected.backward()
    actual.backward()
    gradients = dict(loaded.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family,attention", CASES)
def test_trace_depends_on_no_size_and_no_weight(family, attention, tmp_path):
    texts = []
    for batch, seq, weightless in ((2, 16, False), (3, 24, True)):
        arguments = ["--config", str(MODELS / f"{family}.json"), "--attn", attention]
        arguments += ["-o", str(tmp_path / "model.pt"), "--batch", str(batch), "--seq", str(seq)]
        assert export.main(arguments + ["--weightless"] * weightless) == 0
        texts.append(canonical(archive.load(tmp_path / "model.pt")[0].inlined_graph))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("family", ["gpt2_dropout", "llama_tied", "phi"])
def test_loaded_trace_trains(family, tmp_path, example):
    path = tmp_path / "model.pt"
    assert export.main(["--config", str(MODELS / f"{family}.json"), "-o", str(path)]) == 0
    loaded, _ = archive.load(path)
    optimizer = torch.optim.AdamW(loaded.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = loaded(*example)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 1.0


def test_dropout_stays_in_the_trace(tmp_path):
    path = tmp_path / "model.pt"
    arguments = ["--config", str(MODELS / "gpt2_dropout.json"), "--attn", "eager"]
    assert export.main([*arguments, "-o", str(path)]) == 0
    graph = archive.load(path)[0].inlined_graph
    nodes = graph.findAllNodes("aten::dropout")
    assert len(nodes) == 1 + 2 * 3  # embedding; attention, projection and MLP of two layers
    assert all(abs(list(n.inputs())[1].toIValue() - 0.1) < 1e-9 for n in nodes)
    assert all(list(n.inputs())[2].toIValue() is True for n in nodes)
