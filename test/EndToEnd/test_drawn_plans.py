"""Plans that were drawn layer by layer train under mpirun like one device: loss, every gradient and the weights after
three steps of AdamW with decay, clipping and labels that are ignored, different numbers in each row. And what a rank
allocates is what the plan said.

The same models, in doubles and under more plans: test/unit/Equivalence. `--wide` runs all seeds.
"""

from __future__ import annotations

import json

import numpy
import pytest
from drawn_plans import Sizes, draw_plan
from harness import ROOT, Compiled, check, columns, succeed
from safetensors.numpy import load_file

from galvatron import compare

MODELS = {
    "llama": Sizes(8, 16, 4, 40, 32),
    "gpt2": Sizes(8, 16, 4, 40, 32, tied=True),
    "sixths": Sizes(6, 12, 6, 30, 36),
}
IGNORED = 3  # the label in these programs that does not count
TOLERANCE = 1e-4
# AdamW makes full steps of the rounding of gradients that are zero, such as a key bias's, where eps is smaller.
OPTIONS = ("--lr", "1e-2", "--weight-decay", "0.1", "--clip-grad", "0.25", "--eps", "1e-6", "--seed", 5)
IN_CI = {"llama": (0, 1, 2), "gpt2": (0, 1), "sixths": (0, 1, 2)}
WIDE = {"llama": range(3, 18), "gpt2": range(2, 14), "sixths": range(3, 17)}
CASES = [(name, seed) for name, seeds in IN_CI.items() for seed in seeds] + [
    pytest.param(name, seed, marks=pytest.mark.wide) for name, seeds in WIDE.items() for seed in seeds
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Runs of tokens with more or fewer labels that are ignored."""
    generator = numpy.random.default_rng(3)
    tokens = generator.integers(0, 32, 2000)
    tokens[generator.random(2000) < numpy.repeat(generator.random(100), 20)] = IGNORED
    path = tmp_path_factory.mktemp("drawn") / "tokens.bin"
    path.write_bytes(tokens.astype(numpy.uint8).tobytes())
    return path


def compile_plan(name: str, plan: dict, folder) -> Compiled:
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    program = ROOT / "test" / "Inputs" / f"{name}_ignored.mlir"
    succeed("galvatron-opt", f"--plan={folder / 'plan.json'}", "--lower", program, "-o", folder / "out")
    return Compiled(folder / "out")


def train(compiled: Compiled, data, folder):
    files = ("--save", folder / "saved", "--dump-gradients", folder / "gradients")
    return compiled.train(folder, "--data", data, "--data-dtype", "u8", *files, *OPTIONS, "--steps", 3)


@pytest.fixture(scope="module")
def one_device(data, tmp_path_factory):
    """The plan that a model has on one device, and its run."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            units = [{"path": path} for path in ("embedding", "layers.0", "layers.1", "head")]
            plan = {"ranks": 1, "global_batch": MODELS[name].batch, "units": units}
            compiled = compile_plan(name, plan, folder / "one")
            made[name] = compiled.plan, train(compiled, data, folder / "run")
        return made[name]

    return get


def check_equal(run, expected):
    differences = []
    for label, found, wanted in compare.gradient_pairs(run.folder / "gradients", expected.folder / "gradients", 3):
        found, (wanted, ties) = compare.read_gradients(found)[0], compare.read_gradients(wanted)
        differences += compare.compare_gradients(found, wanted, ties, TOLERANCE)
    found, wanted = (load_file(each.folder / "saved" / "model.safetensors") for each in (run, expected))
    differences += compare.compare_gradients(found, wanted, (), TOLERANCE)
    check(differences + columns(run, expected, loss=TOLERANCE, grad_norm=TOLERANCE))


@pytest.mark.parametrize("name, seed", CASES)
def test_trains_like_one_device(name, seed, one_device, data, tmp_path):
    single, expected = one_device(name)
    plan = draw_plan(seed, MODELS[name], single["units"], single["recomputable_values"])
    compiled = compile_plan(name, plan, tmp_path / "compiled")
    run = train(compiled, data, tmp_path / "run")
    assert run.list_by_rank("peak bytes") == compiled.plan["peak_bytes_per_rank"]
    check_equal(run, expected)


PAIRS = [("sixths", 20), *(pytest.param(name, seed, marks=pytest.mark.wide) for name in MODELS for seed in (22, 24))]


@pytest.mark.parametrize("name, seed", PAIRS)
def test_checkpoint_goes_on_under_another_plan(name, seed, one_device, data, tmp_path):
    """Written by one drawn plan, read by another, and back: after three steps weights and moments are one device's."""
    single, expected = one_device(name)
    plans = [draw_plan(seed + n, MODELS[name], single["units"], single["recomputable_values"]) for n in (0, 1)]
    pair = [compile_plan(name, plan, tmp_path / f"compiled{n}") for n, plan in enumerate(plans)]
    loaded = ()
    for step, compiled in enumerate((pair[0], pair[1], pair[0]), 1):
        folder = tmp_path / str(step)
        files = ("--data", data, "--data-dtype", "u8", "--save", folder)
        run = compiled.train(folder, *files, *loaded, *OPTIONS, "--steps", step)
        assert run.column("step") == [step]
        loaded = ("--load", folder)
    for file in ("model.safetensors", "optimizer.safetensors"):
        found, wanted = load_file(folder / file), load_file(expected.folder / "saved" / file)
        check(compare.compare_gradients(found, wanted, (), 2 * TOLERANCE))  # second moments are squares


def test_tells_what_it_should(one_device, data, tmp_path):
    """Clipping binds, and steps differ in the number of labels; other data are another run."""
    _, expected = one_device("llama")
    assert min(expected.column("grad_norm")) > 0.25
    single, _ = one_device("llama")
    other = tmp_path / "other.bin"
    other.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(AssertionError):
        check_equal(train(compile_plan("llama", single, tmp_path / "one"), other, tmp_path / "run"), expected)
