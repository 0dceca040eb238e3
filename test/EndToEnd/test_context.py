"""Context parallelism in each of its four ways, with whatever attention may add to it or hide: equal to one device.

The programs are executed in one process (--evaluate), a layer's way each; test_sequence.py and test_documents.py run some
of them on ranks of their own.
"""

from __future__ import annotations

import json

import pytest
import torch
from harness import BATCH, MODELS, SEQ, VOCABULARY, Compiled, Layout, call, load_module, succeed
from torch import nn
from torch.nn import functional

from galvatron import export

EOD = 7
WAYS = {
    "gathered": ("gathered", False),
    "gathered zigzag": ("gathered", True),
    "ring": ("ring", False),
    "ring zigzag": ("ring", True),
}


class Attention(nn.Module):
    """What hides keys or adds to scores is computed from positions; `parity` leaves the first query none of its own."""

    def __init__(self, mask: str, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.mask, self.heads = mask, heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            projection(x).view(batch, seq, self.heads, width // self.heads).transpose(1, 2)
            for projection in (self.q, self.k, self.v)
        )
        i, j = torch.arange(seq)[:, None], torch.arange(seq)[None, :]
        mask = {
            "none": None,
            "blocks": i // 4 >= j // 4,
            "prefix": (j <= i) | (j < 5),
            "distance": -0.3 * (i - j).abs().float(),
            "far": (i - j).abs() >= 5,
        }[self.mask]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))


class Written(nn.Module):
    def __init__(self, mask: str, width: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(SEQ, width)
        self.blocks = nn.ModuleList(Attention(mask) for _ in range(blocks))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())


# Of a name in test/Inputs/models, or of a mask above; with --documents, or with position_ids as third input.
FEATURES = {
    "causal": "llama",
    "window": "mistral",
    "softcap": "gemma2",
    "dropout": "gpt2_dropout",
    "documents": "llama --documents",
    "documents in windows": "mistral --documents",
    "documents with dropout": "gpt2_dropout --documents",
    "documents with ALiBi": "bloom --documents",
    "ALiBi of distances": "falcon_alibi",
    "ALiBi of keys": "bloom",
    "bidirectional": "none",
    "blocks": "blocks",
    "prefix": "prefix",
    "bias by distance": "distance",
    "far keys only": "far",
}


class Program:
    """Imported once; `losses` are one device's. `source`: a module, or a row of FEATURES."""

    def __init__(self, source: nn.Module | str, folder) -> None:
        name, *options = source.split() if isinstance(source, str) else ("",)
        self.folder, self.path = folder, folder / "model.mlir"
        folder.mkdir()
        if (MODELS / f"{name}.json").exists():
            attention = "eager" if name in ("bloom", "gemma2") else "sdpa"
            arguments = ["--config", MODELS / f"{name}.json", "--attn", attention, "-o", folder / "model.pt"]
            assert export.main([str(argument) for argument in arguments]) == 0
        else:
            torch.manual_seed(0)
            ids = torch.arange(2 * SEQ).view(2, SEQ)
            export.save(Written(name) if name else source, (ids, ids), folder / "model.pt")
        call("galvatron-import", folder / "model.pt", *options, "--batch", BATCH, "--seq", SEQ, "-o", self.path)
        self.rows = ["--eod", EOD] if "--documents" in options else []
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(0, VOCABULARY, (2 * BATCH, SEQ), generator=generator)
        tokens[torch.rand(tokens.shape, generator=generator) < 0.15] = EOD
        (folder / "tokens.bin").write_bytes(tokens.to(torch.uint8).numpy().tobytes())
        succeed("galvatron-opt", "--search", "--lower", self.path, "--ranks=1", "-o", folder / "searched")
        self.units = Compiled(folder / "searched").units
        self.losses = self.train(self.path)

    def train(self, program) -> list[float]:
        rows = succeed(
            "galvatron-opt", "--evaluate", program, "--optimizer", "sgd", "--lr", 0.5, "--steps", 2, *self.rows,
            "--data", self.folder / "tokens.bin", "--weights", self.folder / "model.safetensors",
        ).stdout.split()  # fmt: skip
        return [float(row.split(",")[1]) for row in rows[1:]]

    def compile(self, layout: Layout, zero: int = 0):
        plan = layout.plan(self.units)
        for unit in plan["units"]:
            unit["strategy"]["zero"] = zero
        (self.folder / "plan.json").write_text(json.dumps(plan))
        options = ("--compile-to=lower", "--keep-bodies", self.path, "-o", self.folder / "lowered.mlir")
        return call("galvatron-opt", f"--plan={self.folder / 'plan.json'}", *options)

    def expect_equal(self, layout: Layout, zero: int = 0):
        lowered = self.compile(layout, zero)
        assert lowered.returncode == 0, lowered.stderr
        assert self.train(self.folder / "lowered.mlir") == pytest.approx(self.losses, rel=1e-6)


# Kernels with no key to see, documents beside a bias, a bias alone; the other features are for the wide run.
FIRST = ("documents with ALiBi", "ALiBi of distances", "prefix", "far keys only")
PARAMETERS = [
    pytest.param(text, id=feature, marks=() if feature in FIRST else pytest.mark.wide) for feature, text in FEATURES.items()
]


@pytest.fixture(scope="module", params=PARAMETERS)
def program(request, tmp_path_factory):
    return Program(request.param, tmp_path_factory.mktemp("context") / "model")


def test_layers_of_all_ways_equal_one_device(program):
    ways = [WAYS[way] for way in ("gathered", "ring", "ring zigzag", "gathered zigzag")] * 2
    kinds, zigzag = zip(*ways[: len(program.units)], strict=True)
    program.expect_equal(Layout(ranks=2, cp=2, cp_kind=list(kinds), cp_zigzag=list(zigzag)))


@pytest.mark.wide
@pytest.mark.parametrize("way", WAYS)
def test_each_way_equals_one_device(program, way):
    kind, zigzag = WAYS[way]
    program.expect_equal(Layout(ranks=2, cp=2, cp_kind=kind, cp_zigzag=zigzag))
    program.expect_equal(Layout(ranks=4, cp=4, cp_kind=kind, cp_zigzag=zigzag, micro_batches=2), zero=3)
    stages = [0] * (len(program.units) - 2) + [1, 1]
    layout = Layout(ranks=8, cp=2, ulysses=2, cp_kind=kind, cp_zigzag=zigzag, stages=stages, micro_batches=2, recompute=True)
    program.expect_equal(layout, zero=2)


def test_booleans_of_single_positions_on_ranks(tmp_path):
    """Pieces of one position: no even number of booleans lies side by side."""
    program = Program("prefix", tmp_path / "model")
    plan = Layout(ranks=8, cp=8, cp_kind="gathered", cp_zigzag=True).plan(program.units)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    succeed("galvatron-opt", f"--plan={tmp_path / 'plan.json'}", "--lower", program.path, "-o", tmp_path / "out")
    options = ("--optimizer", "sgd", "--lr", 0.5, "--steps", 2, "--data", program.folder / "tokens.bin")
    run = Compiled(tmp_path / "out").train(tmp_path / "run", *options)
    assert run.column("loss") == pytest.approx(program.losses, rel=1e-5)


def test_scores_multiplied_by_the_model_refuse_a_ring(tmp_path):
    """A learned bias makes attention products and a softmax, which read all keys."""
    written = load_module(MODELS / "relative_bias.py")
    program = Program(written.Decoder(fused=True), tmp_path / "model")
    program.expect_equal(Layout(ranks=2, cp=2, cp_kind="gathered", cp_zigzag=True))
    refused = program.compile(Layout(ranks=2, cp=2, cp_kind="ring"))
    assert refused.returncode == 1
    assert "layer 'encoder' cannot use cp_kind = ring: expects attention that is one operator" in refused.stderr
    assert 'as where a bias of the scores is learned; use cp_kind "gathered"' in refused.stderr
    assert "relative_bias.py:" in refused.stderr
