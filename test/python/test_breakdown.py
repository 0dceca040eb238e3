"""bench/gpu/breakdown.py: classes of kernels by name, steps by their last kernel, and shares that add up."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))

import breakdown  # noqa: E402
import race  # noqa: E402
from breakdown import Run  # noqa: E402

UPDATE = "void galvatron::cuda::(anonymous namespace)::updateAll<galvatron::cuda::(anonymous namespace)::Adamw>(int)"
NAMES = {
    "nvjet_sm90_tst_128x256_64x4_2x1_v_bz_coopA_NNT": "GEMM",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float>(int)": "GEMM",
    "void cutlass::Kernel2<cutlass_80_tensorop_s16816gemm_bf16_64x64_nn_align8>(int)": "GEMM",
    "triton_tem_fused_mm_1": "GEMM",
    "triton_poi_fused__unsafe_view_mm_mul_silu_2": "elementwise",
    "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_3_64x64x128": "attention",
    "void cudnn::fusion::compute_dot_do_o_specialized<true, 128>(int)": "attention",
    "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0": "norm",
    "void (anonymous namespace)::normBackward<__nv_bfloat16, 8>(int)": "norm",
    "triton_red_fused__log_softmax_nll_loss_forward_3": "loss",
    "void (anonymous namespace)::crossEntropyBackward<__nv_bfloat16, 8>(float const*)": "loss",
    "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>(int)": "AdamW",
    UPDATE: "AdamW",
    "void at::native::multi_tensor_apply_kernel<TensorListMetadata<1>, LpNormFunctor<float, (NormType)1>>(int)": (
        "gradient norm and clipping"
    ),
    "galvatron::cuda::(anonymous namespace)::squares(galvatron::UpdateTensor const*)": "gradient norm and clipping",
    "void at::native::multi_tensor_apply_kernel<TensorListMetadata<2>, CopyFunctor<float>>(int)": "copies",
    "memcpy on the device": "copies",
    "memset": "copies",
    "ncclDevKernel_ReduceScatter_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)": "communication",
    "kernel_17": "elementwise",
    "kernel_17 (rows)": "norm",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_is_classified_by_its_name(name: str):
    assert breakdown.classify(name) == NAMES[name]


def write(path: Path, runs: list[Run]) -> Path:
    names = list(dict.fromkeys(run.name for run in runs))
    lines = [breakdown.HEADER, *(f"name\t{number}\t{name}" for number, name in enumerate(names))]
    lines += [f"run\t{names.index(run.name)}\t{run.stream}\t{run.start}\t{run.end}\t{run.bytes}" for run in runs]
    path.write_text("\n".join([*lines, "dropped\t0"]) + "\n")
    return path


def step(start: int, gemm: int = 500_000) -> list[Run]:
    """Microseconds: product, all-reduce that ends 100 after it, 50 of nothing, norm of the gradients, an update in two
    kernels with a small one between them."""
    end = start + gemm
    return [
        Run("nvjet", 1, start, end),
        Run("ncclDevKernel_AllReduce", 2, start + 200_000, end + 100_000),
        Run("squares(int)", 1, end + 150_000, end + 180_000),
        Run(UPDATE, 1, end + 180_000, end + 200_000),
        Run("kernel_9", 1, end + 200_000, end + 210_000),
        Run(UPDATE, 1, end + 210_000, end + 240_000),
    ]


def test_shares_of_a_step_are_what_was_exposed(tmp_path: Path):
    runs = [run for number in range(4) for run in step(1_000_000 + number * 740_000)]
    found = breakdown.analyse(breakdown.read(write(tmp_path / "trace.0", runs)))
    assert (found["steps"], found["step_ms"], found["library_ms"]) == (3, 0.74, 0.5)
    classes = found["classes"]
    assert classes["communication"] == {"ms": 0.1, "covered_ms": 0.3, "launches": 1}
    assert classes["idle"]["ms"] == 0.05
    assert classes["AdamW"] == {"ms": 0.05, "covered_ms": 0, "launches": 2}


def test_kernels_are_listed_by_their_whole_time(tmp_path: Path):
    runs = [run for number in range(3) for run in step(1_000_000 + number * 740_000)]
    runs.append(Run("memcpy to the host", 1, 3_200_000, 3_210_000, 40_000))
    runs += step(3_220_000)
    kernels = breakdown.analyse(breakdown.read(write(tmp_path / "trace.0", runs)), steps=1, top=2)["kernels"]
    assert [(kernel["name"], kernel["ms"]) for kernel in kernels] == [("nvjet", 0.5), ("ncclDevKernel_AllReduce", 0.4)]


def test_a_copy_has_a_speed(tmp_path: Path):
    runs = [*step(1_000_000), Run("memcpy to the host", 1, 1_800_000, 1_810_000, 40_000), *step(1_820_000)]
    kernels = breakdown.analyse(breakdown.read(write(tmp_path / "trace.0", runs)))["kernels"]
    assert next(kernel for kernel in kernels if kernel["name"] == "memcpy to the host")["gb_s"] == 4


def test_steps_of_another_shape_do_not_count(tmp_path: Path):
    """The first steps tune and compile."""
    tuning = [Run("nvjet", 1, 10 + k, 11 + k) for k in range(50)]
    runs = [*tuning, *step(1_000_000), *tuning_later(2_000_000), *step(2_500_000), *step(3_500_000), *step(4_500_000)]
    found = breakdown.analyse(breakdown.read(write(tmp_path / "trace.0", runs)), steps=9)
    assert (found["steps"], found["least_ms"], found["most_ms"]) == (2, 1.0, 1.0)


def tuning_later(start: int) -> list[Run]:
    return [Run("kernel_1", 1, start + 10 * k, start + 10 * k + 5) for k in range(20)]


def test_shares_always_add_up():
    """Against a sum over every nanosecond."""
    order, names = {"copies": 1, "communication": 2}, ["nvjet", "kernel_1", "memset", "ncclDevKernel"]
    draw = random.Random(5)
    for _ in range(100):
        runs = []
        for _ in range(draw.randrange(8)):
            start = draw.randrange(60)
            runs.append(Run(draw.choice(names), draw.randrange(3), start, start + draw.randrange(20)))
        runs.sort(key=lambda run: (run.start, run.end))
        classes = breakdown.Classes()
        expected: dict[str, int] = {}
        for at in range(5, 70):
            running = [run for run in runs if run.start <= at < run.end]
            best = min(running, key=lambda run: (order.get(classes[run.name], 0), run.start, run.end), default=None)
            label = classes[best.name] if best else "idle"
            expected[label] = expected.get(label, 0) + 1
        assert breakdown.attribute(5, 70, runs, classes) == expected


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path):
    (tmp_path / "log").write_text("step,loss\n")
    with pytest.raises(breakdown.Unreadable, match="is no trace"):
        breakdown.read(tmp_path / "log")


def test_a_trace_without_steps_is_refused(tmp_path: Path):
    path = write(tmp_path / "trace.0", [Run("kernel_1", 1, 5, 9), *step(1_000_000)])
    with pytest.raises(breakdown.Unreadable, match="no whole step"):
        breakdown.analyse(breakdown.read(path))


def test_the_table_has_both_programs_side_by_side(tmp_path: Path):
    runs = [run for number in range(3) for run in step(1_000_000 + number * 740_000)]
    column = breakdown.analyse(breakdown.read(write(tmp_path / "trace.0", runs)))
    table = breakdown.table_of({"ours": column, "peer": column})
    assert "| communication, exposed | 0.10 | 1 | 0.10 | 1 |" in table
    assert "| GEMM and attention by themselves | 0.50 |  | 0.50 |  |" in table
    assert "attention |" not in table.replace("GEMM and attention by themselves |", "")


def race_of(tmp_path: Path) -> race.Race:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / breakdown.LIBRARY).touch()
    (tmp_path / race.programs.INDEX).write_text('{"device": "cuda", "size": "full", "race": []}')
    options = {
        "folder": tmp_path,
        "out": tmp_path / "out",
        "gpus": 1,
        "deadline": 99,
        "timeout": 9,
        "steps": 15,
        "warmup": 5,
        "breakdown": "both",
    }
    return race.Race(argparse.Namespace(**options))


def test_a_race_records_every_rank_of_both_programs(tmp_path: Path, monkeypatch):
    subject, seen = race_of(tmp_path), {}

    def recorded(name: str, command: list, ranks: int, env: dict):
        """As a program does that was started with this environment."""
        seen[name] = [str(word) for word in command]
        assert env["CUDA_INJECTION64_PATH"] == str(tmp_path / "lib" / breakdown.LIBRARY)
        for rank in range(ranks):
            runs = [run for number in range(3) for run in step(1_000_000 + number * 740_000, 500_000 - rank)]
            write(Path(env["GALVATRON_TRACE_FILE"].replace("%r", str(rank))), runs)

    monkeypatch.setattr(subject, "run", recorded)
    row = next(row for row in race.programs.ROWS if row.name == "llama2-7b-tp2-dp2")
    found = subject.where_time_goes(row, {"folder": "race/whole"}, {"tok_s_gpu": 1.0})
    assert list(found) == ["ours", "peer"] and all(len(by_rank) == 4 for by_rank in found.values())
    assert (
        "9" in seen["ours-llama2-7b-tp2-dp2-traced"]
        and "torch.distributed.run" in seen["peer-llama2-7b-tp2-dp2-traced"]
    )
    text = subject.breakdown_text({"row": row.name, "title": row.title, "ranks": 4, "breakdown": found})
    assert "| ours, rank 0 | launches | ours, rank 3 | launches | peer, rank 0 |" in text
    assert "### llama2-7b-tp2-dp2, peer: kernels" in text


def test_a_race_without_the_library_says_so(tmp_path: Path, capsys):
    subject = race_of(tmp_path)
    (tmp_path / "lib" / breakdown.LIBRARY).unlink()
    assert subject.traced("ours", ["true"], 1, {}) == {}
    assert "no libgalvatron_trace.so" in capsys.readouterr().out
