"""galvatron.report: the plan's table and the curve."""

import json

import pytest

from galvatron import report


def unit(path, stage=0, **strategy):
    return {"path": path, "layer_type": "decoder", "stage": stage, "strategy": strategy}


def test_equal_neighbours_are_one_row():
    units = [
        unit("layers.0", dp=2, tp=1),
        unit("layers.1", dp=2, tp=1),
        unit("layers.2", stage=1, tp=2, recompute=True),
    ]
    assert report.grouped_units(units) == [
        ("layers.0 … layers.1", "decoder", 0, "dp 2"),
        ("layers.2", "decoder", 1, "tp 2, recompute"),
    ]


def test_curve_falls_from_first_to_last_row():
    lines = report.curve([4.0, 3.0, 2.0], width=3, height=3)
    assert lines == ["   4.000 |*", "   3.000 | *", "   2.000 |  *", "         +---", "          1 3"]


def test_curve_of_equal_values_is_one_row():
    assert report.curve([2.0] * 5, width=72)[0] == "   2.000 |*****"


def test_curve_averages_where_steps_exceed_columns():
    lines = report.curve([3.0, 5.0, 1.0, 1.0], width=2, height=4)
    assert lines[0].startswith("   4.000 |*") and lines[3].startswith("   1.000 | *")


def test_last_line_is_the_last_loss(tmp_path, capsys):
    plan = {"ranks": 4, "global_batch": 8, "micro_batches": 2, "units": [unit("layers.0", tp=2)]}
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"peak_bytes_per_rank": [2**20] * 4}))
    header = "step,loss,lr,grad_norm,tokens_per_second,peak_bytes\n"
    (tmp_path / "log.csv").write_text(header + "1,5.5,1e-3,1,100,1\n2,2.34567,1e-3,1,200,1\n")
    assert report.main([str(tmp_path / "plan.json"), str(tmp_path / "log.csv")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "plan: 4 ranks in 1 pipeline stage, global batch 8 in 2 micro-batches"
    assert printed[-1] == "final loss 2.3457"


def test_losses_that_are_not_finite_are_told(tmp_path, capsys):
    plan = {"ranks": 4, "global_batch": 8, "micro_batches": 2, "units": [unit("layers.0", tp=2)]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "log.csv").write_text("step,loss,tokens_per_second\n1,5.5,9\n2,nan,9\n3,inf,9\n4,,9\n5,5.25,9\n")
    assert report.main([str(tmp_path / "plan.json"), str(tmp_path / "log.csv")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-3:] == ["no finite loss in 2 of 5 steps, the first of them step 2", "", "final loss 5.2500"]


def test_missing_log_is_an_error(tmp_path, capsys):
    good = {"ranks": 1, "global_batch": 8, "micro_batches": 2, "units": []}
    (tmp_path / "plan.json").write_text(json.dumps(good))
    assert report.main([str(tmp_path / "plan.json"), str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "plan, log, complaint",
    [
        ("", "", "plan.json: expects the plan.json of an output folder, but it is no JSON (Expecting value"),
        ("[1]", "", "plan.json: expects the plan.json of an output folder, but it has no ranks"),
        ('{"pp_deg": 1}', "", "plan.json: expects the plan.json of an output folder, but it has no ranks"),
        ("PLAN", "a,b\n1,2\n", "log.csv: expects what --log of a run wrote (step,loss,... and a line a step), but it has no column step"),
        ("PLAN", "step,loss,tokens_per_second\n1,x,3\n", "log.csv: expects what --log of a run wrote (step,loss,... and a line a step), but line 2"),
        ("PLAN", "\xff", "log.csv: expects what --log of a run wrote"),
        ("PLAN", "step,loss,tokens_per_second\n", "log.csv has no steps yet"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(plan, log, complaint, tmp_path, capsys):
    good = json.dumps({"ranks": 1, "global_batch": 8, "micro_batches": 2, "units": []})
    (tmp_path / "plan.json").write_text(good if plan == "PLAN" else plan)
    (tmp_path / "log.csv").write_bytes(log.encode("latin-1"))
    assert report.main([str(tmp_path / "plan.json"), str(tmp_path / "log.csv")]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and complaint in told.err
