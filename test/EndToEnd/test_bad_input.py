"""Bad input to each tool: one message that names the thing and a remedy, exit code not 0, no hang, nothing half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import BATCH, SEQ, VOCABULARY, call, environment
from plans import PLANS

TOOL_SECONDS = 60


def refused(message: str, *command, folder: Path) -> str:
    """`folder` holds all that the command may write to; it must stay as it is."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = call(*command, timeout=TOOL_SECONDS)
    assert result.returncode not in (0, -6, -11), result.stderr
    assert re.search(message, result.stderr), result.stderr
    # One line, or MLIR's form with the source line below; no stack, no second error.
    assert result.stderr.count("error:") <= 1, result.stderr
    assert len(result.stderr.splitlines()) <= 4, result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return result.stderr


def import_refused(message: str, model: Path, folder: Path, *shape):
    shape = shape or ("--batch", BATCH, "--seq", SEQ)
    return refused(message, "galvatron-import", model, *shape, "-o", folder / "model.mlir", folder=folder)


@pytest.mark.parametrize("keep", (0, 10, 3000, 400_000))
def test_truncated_model(keep, models, tmp_path):
    file = tmp_path / "cut.pt"
    file.write_bytes(models("llama").archive.read_bytes()[:keep])
    import_refused(r"cut\.pt: .*(truncated|another format).*galvatron\.export", file, tmp_path)


def test_foreign_model(models, tmp_path):
    import torch

    text = tmp_path / "text.pt"
    text.write_text("weights, honestly\n")
    import_refused(r"text\.pt: .*another format", text, tmp_path)
    states = tmp_path / "states.pt"
    torch.save({"weight": torch.zeros(3)}, states)
    import_refused(r"states\.pt: .*galvatron\.export", states, tmp_path)
    scripted = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(2, 4)), str(scripted))
    import_refused(r"scripted\.pt: expects forward\(input_ids, labels\)", scripted, tmp_path)
    import_refused(r"nowhere\.pt: no such file", tmp_path / "nowhere.pt", tmp_path)


class Fancy:
    """Modules that cannot be imported, made where torch is loaded."""

    @staticmethod
    def build(body):
        import torch
        from torch import nn

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(16, 16)

            def forward(self, x, ids):
                return body(torch, self.linear(x), ids)

        class Root(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(VOCABULARY, 16)
                self.block = Block()
                self.head = nn.Linear(16, VOCABULARY)

            def forward(self, input_ids, labels):
                logits = self.head(self.block(self.table(input_ids), input_ids))
                return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

        return Root()


@pytest.mark.parametrize(
    "body, message",
    [
        (lambda torch, x, ids: torch.linalg.matrix_exp(x), r"unsupported operator aten::linalg_matrix_exp"),
        (lambda torch, x, ids: torch.fft.fft(x).real, r"unsupported operator aten::fft_fft"),
        (lambda torch, x, ids: x + x[ids > 5].mean(), r"shape that depends on data"),
        (lambda torch, x, ids: x + (ids > 5).nonzero().float().mean(), r"aten::nonzero.*shape that depends on data"),
    ],
    ids=("operator", "complex", "masked", "nonzero"),
)
def test_module_that_cannot_be_imported(body, message, tmp_path):
    """The operator, its module path, and the Python line."""
    import torch

    from galvatron import export

    archive = tmp_path / "model.pt"
    ids = torch.randint(0, VOCABULARY, (2, SEQ), generator=torch.Generator().manual_seed(1))
    export.save(Fancy.build(body), (ids, ids), archive)
    import_refused(message, archive, tmp_path)
    import_refused(r" in block \(test_bad_input\.py:\d+\)", archive, tmp_path)


def test_shapes_that_the_model_cannot_have(models, tmp_path):
    archive = models("gpt2").archive
    import_refused(r"table of 128 rows.*--seq", archive, tmp_path, "--batch", 8, "--seq", 129)
    import_refused(r"--batch.*'0'", archive, tmp_path, "--batch", 0, "--seq", 16)
    import_refused(r"--seq.*'long'", archive, tmp_path, "--batch", 8, "--seq", "long")
    import_refused(r"--depth", archive, tmp_path, "--depth", 3)


def compile_refused(message: str, models, folder: Path, *options, model="llama"):
    program = models(model).program
    error = refused(message, "galvatron-opt", "--lower", program, *options, "-o", folder / "out", folder=folder)
    # About the whole program: none of its lines is to blame, so none is shown.
    assert all(line.startswith("galvatron-opt: ") for line in error.splitlines()), error
    return error


def changed(models, **changes) -> dict:
    return PLANS["dp2-tp2"].plan(models("llama").units) | changes


def units(models, index: int, **changes) -> list[dict]:
    listed = PLANS["dp2-tp2"].plan(models("llama").units)["units"]
    strategy = changes.pop("strategy", {})
    listed[index] |= changes
    listed[index]["strategy"] |= strategy
    return listed


def everywhere(models, tp: int) -> list[dict]:
    return [unit | {"strategy": {"tp": tp}} for unit in units(models, 0)]


LAYER = r"model\.layers\.1"
OWN_PLANS = {
    "missing layer": (lambda m: {"units": units(m, 0)[:3] + units(m, 0)[4:]}, r"model\.layers\.2.*add it"),
    "too many layers": (lambda m: {"units": units(m, 0) + [{"path": "model.layers.3"}]}, r"model\.layers\.3.*remove"),
    "twice": (lambda m: {"units": units(m, 0) + units(m, 0)[2:3]}, rf"{LAYER}.*twice"),
    "degree": (lambda m: {"units": units(m, 2, strategy={"tp": 3})}, rf"{LAYER}.*3"),
    "heads": (
        lambda m: {"ranks": 5, "micro_batches": 8, "units": everywhere(m, 5)},
        r"model\.embed_tokens.*tp = 5.*divide 256",
    ),
    "batch": (lambda m: {"micro_batches": 3}, r"micro_batches.*3|8.*3"),
    "dp": (lambda m: {"micro_batches": 8}, r"dp.*2"),
    "unknown key": (lambda m: {"stages": 2}, r"unknown key 'stages'.*known keys"),
    "unknown key of a unit": (lambda m: {"units": units(m, 2, strategy={"tensor": 2})}, r"unknown key 'tensor'"),
    "type": (lambda m: {"units": units(m, 2, strategy={"tp": "two"})}, r"'tp'.*\"two\""),
    "stages fall": (lambda m: {"units": units(m, 2, stage=1)}, r"stage"),
    "not yet": (lambda m: {"units": units(m, 2, strategy={"ep": 2})}, rf"{LAYER}.*ep"),
}


@pytest.mark.parametrize("case", OWN_PLANS)
def test_own_plan(case, models, tmp_path):
    changes, message = OWN_PLANS[case]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(changed(models, **changes(models))))
    compile_refused(message, models, tmp_path, f"--plan={file}")


@pytest.mark.parametrize("case", ("missing layer", "degree", "unknown key", "not yet"))
def test_own_plan_of_another_batch(case, models, tmp_path):
    """The batch of a plan may differ from the trace's: its mistakes are named, not its batch."""
    changes, message = OWN_PLANS[case]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(changed(models, global_batch=4 * BATCH, **changes(models))))
    error = compile_refused(message, models, tmp_path, f"--plan={file}")
    assert "plan.json: " in error and "asked for" not in error, error


def test_plan_by_hand_that_does_not_fit(models, tmp_path):
    """Names what it needs, which then does."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(changed(models)))
    error = compile_refused(
        r"stage 0 of this plan needs \d+ bytes", models, tmp_path, f"--plan={file}", "--memory=9KiB"
    )
    for pattern in (r"needs (\d+) bytes", r"--memory=([\d.]+[KM]iB)"):
        budget = re.search(pattern, error).group(1)
        program = models("llama").program
        output = tmp_path / f"out-{budget}"
        done = call("galvatron-opt", "--lower", program, f"--plan={file}", f"--memory={budget}", "-o", output)
        assert done.returncode == 0, done.stderr


REFERENCE_PLAN = {
    "pp_deg": 2, "tp_sizes_enc": "2,1,2", "tp_consecutive_flags": "1,1,1", "dp_types_enc": "0,0,0", "use_sp": "0,0,0",
    "checkpoint": "0,1,0", "global_bsz": BATCH, "chunks": 4, "pp_division": "2,1", "pipeline_type": "pipedream_flush",
    "default_dp_type": "ddp", "vtp": 2, "vsp": 0, "embed_sdp": 0, "world_size": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tp_sizes_enc": "2,1"}, r"tp_sizes_enc.*3"),
        ({"tp_sizes_enc": "2,1,3"}, r"3"),
        ({"pp_division": "2,2"}, r"pp_division"),
        ({"chunkz": 4}, r"unknown key 'chunkz'"),
        ({"default_dp_type": "zero1"}, r"default_dp_type"),
        ({"vtp": 3}, r"3"),
    ],
    ids=str,
)
def test_reference_plan(changes, message, models, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(REFERENCE_PLAN | changes))
    compile_refused(message, models, tmp_path, f"--plan={file}")


def test_plan_file(models, tmp_path):
    file = tmp_path / "plan.json"
    compile_refused(r"plan\.json'?: No such file", models, tmp_path, f"--plan={file}")
    file.write_text('{"units": [')
    compile_refused(r"plan.*(line 1|column|JSON)", models, tmp_path, f"--plan={file}")
    file.write_text("[]")
    compile_refused(r"'units'.*'pp_deg'", models, tmp_path, f"--plan={file}")
    compile_refused(r"--search or --plan", models, tmp_path)


@pytest.mark.parametrize("model, ranks", [("llama", 1), ("llama", 4), pytest.param("gpt2", 4, marks=pytest.mark.wide)])
def test_budget_that_nothing_fits(model, ranks, models, tmp_path):
    """Says the smallest that fits, which then does fit and is the smallest, and the layer in the way."""
    search = ("--search", f"--ranks={ranks}")
    message = compile_refused(r"no strategy fits 10\.0 KiB", models, tmp_path, *search, "--memory=10KiB", model=model)
    assert re.search(r"model\.layers\.\d|lm_head|model\.embed_tokens|transformer\.", message)
    smallest = int(re.search(r"needs (\d+) bytes", message).group(1))
    written = re.search(r"raise the budget to --memory=([\d.]+[KM]iB)", message).group(1)
    for budget in (smallest, written):
        output = tmp_path / f"out-{budget}"
        program = models(model).program
        result = call("galvatron-opt", "--lower", program, *search, f"--memory={budget}", "-o", output)
        assert result.returncode == 0, result.stderr
    plan = json.loads((tmp_path / f"out-{smallest}" / "plan.json").read_text())
    assert max(plan["peak_bytes_per_rank"]) == smallest
    compile_refused(rf"needs {smallest} bytes", models, tmp_path, *search, f"--memory={smallest - 1}", model=model)


def test_options_of_the_compiler(models, tmp_path):
    for options, message in [
        (["--search", "--ranks=0"], r"--ranks.*0"),
        (["--search", "--ranks=2", "--memory=lots"], r"lots.*|2GiB"),
        (["--search", "--ranks=2", "--memory=0"], r"0"),
        (["--search", "--cluster=nowhere.json"], r"nowhere\.json"),
        (["--search", "--ranks=2", "--global-batch=0"], r"global.batch"),
    ]:
        compile_refused(message, models, tmp_path, *options)


def test_cluster_file(models, tmp_path):
    file = tmp_path / "cluster.json"
    for text, message in [
        ('{"nodes": 1}', r"devices_per_node"),
        ('{"nodes": 1, "devices_per_node": 2, "gpus": 8}', r"unknown key 'gpus'"),
        ('{"nodes": 0, "devices_per_node": 2}', r"nodes.*0"),
        ('{"nodes": 1, "devices_per_node": 2, "device": "abacus"}', r"abacus"),
        ("nonsense", r"cluster\.json"),
    ]:
        file.write_text(text)
        compile_refused(message, models, tmp_path, "--search", f"--cluster={file}")


def test_foreign_program(models, tmp_path):
    program = models("llama").program.read_text()
    for name, text in [("cut.mlir", program[:9000]), ("text.mlir", "hello"), ("empty.mlir", "")]:
        file = tmp_path / name
        file.write_text(text)
        message = refused(name, "galvatron-opt", "--search", "--lower", file, "-o", tmp_path / "out", folder=tmp_path)
        assert "galvatron-import" in message, message
    archive = models("llama").archive
    message = r"archive as galvatron.export writes it; import it first: galvatron-import .*model\.pt"
    refused(message, "galvatron-opt", "--search", "--lower", archive, "-o", tmp_path / "out", folder=tmp_path)
    refused("no.mlir", "galvatron-opt", "--search", "--lower", tmp_path / "no.mlir", folder=tmp_path)


def test_output_folder_that_cannot_be_written(models, tmp_path):
    program = models("llama").program
    file = tmp_path / "file"
    file.write_text("in the way")
    for output in (file, file / "deeper", Path("/proc/nowhere/out")):
        refused(rf"{output.name}|{output.parent.name}", "galvatron-opt", "--search", "--lower", program, "--ranks=2",
                "-o", output, folder=tmp_path)  # fmt: skip
    refused(r"file", "galvatron-import", models("llama").archive, "--batch", 8, "--seq", 16,
            "-o", file / "model.mlir", folder=tmp_path)  # fmt: skip


# Stage binaries.


def exits(folder: Path, places: list[tuple[int, Path]], *options) -> tuple[list[int], str]:
    """mpirun with `places` = (ranks, binary); every rank's exit code, and what was said."""
    codes = folder / "codes"
    codes.mkdir()
    command = ["mpirun"]
    for ranks, binary in places:
        command += [":"] * (len(command) > 1)
        script = f'"$@"; echo $? > {codes}/$OMPI_COMM_WORLD_RANK'
        command += ["-np", str(ranks), "sh", "-c", script, "sh", str(binary), *map(str, options)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    found = [int(file.read_text()) for file in sorted(codes.iterdir())]
    for file in codes.iterdir():
        file.unlink()
    codes.rmdir()
    return found, result.stderr


def run_refused(message: str, models, folder: Path, *options, ranks=(2, 2), order=(0, 1)):
    compiled = models("llama").compile("tp2-pp2", PLANS["tp2-pp2"])
    before = sorted(folder.rglob("*"))
    places = [(count, compiled.folder / f"stage{stage}") for count, stage in zip(ranks, order, strict=True)]
    codes, errors = exits(folder, places, *options)
    assert codes == [1] * sum(ranks), errors
    assert re.search(message, errors), errors
    assert errors.count("error:") == 1, errors
    assert sorted(folder.rglob("*")) == before


def test_wrong_number_of_ranks(models, tmp_path):
    run_refused(r"needs 4 ranks.*3.*\n*.*mpirun -np 2", models, tmp_path, ranks=(2, 1))
    run_refused(r"needs 4 ranks.*2", models, tmp_path, ranks=(2,), order=(0,))
    run_refused(r"needs 4 ranks.*5", models, tmp_path, ranks=(3, 2))


def test_stages_in_the_wrong_order(models, tmp_path):
    run_refused(r"rank 0 must run stage 0, but runs stage 1", models, tmp_path, order=(1, 0))
    run_refused(r"must run stage", models, tmp_path, order=(0, 0))


def test_stages_of_two_programs(models, tmp_path):
    """Same model, mesh and schedule: only the plan tells them apart. Compiling again makes the same program."""
    layout = PLANS["tp2-pp2"]
    stages = [
        models("llama").compile(name, plan).folder / f"stage{index}"
        for index, (name, plan) in enumerate(
            [("tp2-pp2", layout), ("recomputed", dataclasses.replace(layout, recompute=True))]
        )
    ]
    codes, errors = exits(tmp_path, [(2, stage) for stage in stages])
    assert codes == [1] * 4 and errors.count("error:") == 1, errors
    assert "rank 2 runs a stage of another program than rank 0" in errors
    again = models("llama").compile("tp2-pp2-again", layout).folder / "stage1"
    codes, errors = exits(tmp_path, [(2, stages[0]), (2, again)], "--steps", 1, "--quiet")
    assert codes == [0] * 4, errors


def test_data(models, tmp_path):
    file = tmp_path / "tokens.bin"
    run_refused(r"tokens\.bin", models, tmp_path, "--data", file)
    file.write_bytes(bytes(BATCH * SEQ - 1))
    run_refused(r"tokens\.bin.*127 tokens.*128", models, tmp_path, "--data", file)
    wide = bytearray(2 * 3 * BATCH * SEQ)
    wide[2 * 300 : 2 * 300 + 2] = (VOCABULARY).to_bytes(2, "little")
    file.write_bytes(bytes(wide))
    options = ("--data", file, "--data-dtype", "u16", "--save", tmp_path / "save", "--log", tmp_path / "log.csv")
    run_refused(r"tokens\.bin: token 300 is 256, outside the vocabulary of 256", models, tmp_path, *options)


def test_options_of_a_stage(models, tmp_path, tokens):
    run_refused(r"--stepz", models, tmp_path, "--stepz", 3)
    run_refused(r"--lr.*'fast'", models, tmp_path, "--lr", "fast")
    run_refused(r"nowhere", models, tmp_path, "--load", tmp_path / "nowhere")
    run_refused(r"nowhere", models, tmp_path, "--weights", tmp_path / "nowhere.safetensors")
    foreign = models("gpt2").folder / "model.safetensors"
    run_refused(r"no tensor model\.|has no", models, tmp_path, "--weights", foreign)


def test_places_that_cannot_be_written(models, tmp_path, tokens):
    file = tmp_path / "file"
    file.write_text("in the way")
    for option, value in [("--save", file / "save"), ("--log", file / "log"), ("--dump-gradients", file)]:
        run_refused(r"file", models, tmp_path, "--data", tokens, option, value)


def test_launch_passes_the_failure_on(models, tmp_path):
    compiled = models("llama").compile("tp2-pp2", PLANS["tp2-pp2"])
    result = compiled.launch("--data", tmp_path / "nowhere.bin")
    assert result.returncode == 1
    assert result.stderr.count("error:") == 1 and "nowhere.bin" in result.stderr


def test_folder_that_lost_a_file(models, tmp_path):
    """A library or the weights that were left behind when the folder was copied by hand."""
    compiled = models("llama").compile("tp2-pp2", PLANS["tp2-pp2"])
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in compiled.folder.iterdir():
        if file.name != "model.safetensors":
            os.link(file, copy / file.name)
    result = call(copy / "launch", "--steps", 1)
    assert result.returncode == 1 and "model.safetensors" in result.stderr
    assert result.stderr.count("error:") == 1, result.stderr
    for lost in ("libgalvatron_rt.so", "stage1"):
        (copy / lost).unlink()
        result = call(copy / "launch", "--steps", 1)
        assert result.returncode == 127 and f"{lost}; copy the whole folder" in result.stderr, result.stderr
        assert result.stderr.count("error:") == 1, result.stderr
        os.link(compiled.folder / lost, copy / lost)


def test_library_that_is_not_installed(models, tmp_path):
    """Told once, before any rank starts."""
    compiled = models("llama").compile("one", PLANS["one"])
    copy = tmp_path / "copy"
    copy.mkdir()
    os.link(compiled.folder / "launch", copy / "launch")
    (tmp_path / "gone.c").write_text("int gone(void) { return 0; }\n")
    (tmp_path / "stage.c").write_text("int gone(void); int main(void) { return gone(); }\n")
    for words in (
        ["-shared", "-fPIC", "gone.c", "-o", "libgone.so"],
        ["stage.c", "-L.", "-lgone", "-o", "copy/stage0"],
    ):
        assert call("cc", *words, cwd=tmp_path).returncode == 0
    (tmp_path / "libgone.so").unlink()
    for options in (["--steps", 1], ["--help"]):
        result = call(copy / "launch", *options)
        assert result.returncode == 127, result.stderr
        assert result.stderr.splitlines() == [
            "error: cannot find libgone.so; install what they belong to (Debian: libopenmpi3, libdnnl2)"
        ]
