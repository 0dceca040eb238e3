"""galvatron.report -o: the page's elements and figures, of folders written by hand; a browser opens it in test_report_browser."""

import json
import os
import re

import pytest
from report_inputs import log_text, make_program, make_trace, pack_rows, write_folder

from galvatron import report
from galvatron.report_page import arena, curves, steps, strategies, timeline
from galvatron.report_page.timetables import read_timetable


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "plan", *make_program())


def run(*arguments):
    return report.main([str(argument) for argument in arguments])


def page_of(tmp_path, *arguments):
    """(text of the page, its data)."""
    page = tmp_path / "report.html"
    assert run(*arguments, "-o", page) == 0
    text = page.read_text()
    return text, json.loads(re.search(r'id="galvatron-data">(.*?)</script>', text).group(1))


def attributes(text, name):
    return re.findall(rf'{name}="([^"]*)"', text)


def section(text, name):
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL).group(0)


def test_sections_stand_in_order(folder, tmp_path):
    text, data = page_of(tmp_path, folder)
    names = ["summary", "strategies", "memory", "timeline", "communication", "training", "what-if", "comparison"]
    assert re.findall(r'<section id="([a-z-]+)"', text) == names
    assert {"plan", "runs", "timetable", "trace", "against"} <= data.keys()
    assert data["plan"] == json.loads((folder / "plan.json").read_text())
    assert data["timetable"] == json.loads((folder / "timetable.json").read_text())
    assert data["trace"] is None and data["against"] is None and data["runs"] == []


def test_one_element_a_unit_in_order(folder, tmp_path):
    text, data = page_of(tmp_path, folder)
    units = data["plan"]["units"]
    found = re.findall(r'data-unit="([^"]*)" data-stage="([^"]*)" data-strategy="([^"]*)"', section(text, "strategies"))
    assert [(u["path"], str(u["stage"])) for u in units] == [(path, stage) for path, stage, _ in found]
    assert found[0][2] == "tp=2" and found[1][2] == "dp=2 zero2"


def test_units_stay_in_order_where_stages_have_parts(tmp_path):
    plan, _ = make_program(layers=2)
    for unit, stage in zip(plan["units"], (0, 1, 0, 1)):
        unit["stage"] = stage
    text, _ = page_of(tmp_path, write_folder(tmp_path / "plan", plan))
    shown = section(text, "strategies")
    assert attributes(shown, "data-unit") == [unit["path"] for unit in plan["units"]]
    assert attributes(shown, "data-stage") == ["0", "1", "0", "1"]


def test_leaves_add_up_to_each_peak(folder, tmp_path):
    text, data = page_of(tmp_path, folder)
    peaks = data["plan"]["peak_bytes_per_rank"]
    drawings = re.findall(r'<svg[^>]*data-ranks="([0-9,]+)".*?</svg>', text, re.DOTALL)
    assert drawings == ["0,1", "2,3"]
    for ranks, drawing in re.findall(r'<svg[^>]*data-ranks="([0-9,]+)"[^>]*>(.*?)</svg>', text, re.DOTALL):
        for rank in ranks.split(","):
            assert sum(map(int, attributes(drawing, "data-bytes"))) == peaks[int(rank)]
        paths = [unit["path"] for unit in data["plan"]["units"]]
        for name in attributes(drawing, "data-buffer"):
            assert name == arena.NOBODY or name.startswith(tuple(paths))


def test_what_two_buffers_name_counts_once():
    buffers = [
        {"name": "a", "kind": "weight", "bytes": 10, "offset": 0, "persistent": True},
        {"name": "b", "kind": "scratch", "bytes": 10, "offset": 5, "first": 0, "last": 0},
    ]
    leaves = arena.leaves_at({"buffers": buffers, "entries": [{}]}, 0, 20)
    assert [(leaf.name, leaf.bytes) for leaf in leaves] == [("weight: a", 10), ("scratch: b", 5), (arena.NOBODY, 5)]


def test_many_buffers_of_a_module_are_one_leaf():
    many = arena.MOST_LEAVES + 1
    buffers = [
        {"name": str(i), "unit": "m", "kind": "weight", "bytes": 1, "offset": i, "persistent": True}
        for i in range(many)
    ]
    (leaf,) = arena.leaves_at({"buffers": buffers, "entries": []}, 0, many)
    assert (leaf.name, leaf.bytes) == (f"m weight: {many} buffers", many)


def test_a_treemap_has_areas_as_bytes_and_no_overlap():
    sizes = [1, 50, 7, 300, 7, 0, 12]
    boxes = arena.treemap(sizes, 400, 300)
    for size, (x, y, width, height) in zip(sizes, boxes):
        assert width * height == pytest.approx(size * 400 * 300 / sum(sizes), abs=1e-3)
        assert -1e-6 <= x and x + width <= 400.001 and -1e-6 <= y and y + height <= 300.001
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, a, b in boxes[i + 1 :]:
            assert min(x + w, u + a) - max(x, u) < 1e-3 or min(y + h, v + b) - max(y, v) < 1e-3


def test_the_predicted_timeline_ends_with_the_step(folder, tmp_path):
    text, data = page_of(tmp_path, folder)
    spans = re.findall(r'data-source="predicted" data-stage="(\d)" data-start="([^"]+)" data-duration="([^"]+)"', text)
    assert {stage for stage, _, _ in spans} == {"0", "1"}
    end = max(float(start) + float(duration) for _, start, duration in spans)
    assert end == pytest.approx(data["plan"]["predicted_step_seconds"], abs=1e-9)


def test_causes_add_up_to_each_step(folder, tmp_path):
    table = json.loads((folder / "timetable.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps(make_trace(table)))
    text, data = page_of(tmp_path, folder, tmp_path / "t.json")
    step = data["plan"]["predicted_step_seconds"]
    for kind, seconds in (("predicted", step), ("measured", 1.25 * step)):
        for stage in range(2):
            assert sum(by_stage[stage] for by_stage in data["causes"][kind].values()) == pytest.approx(seconds)
    assert data["trace"]["measured"]["steps"] == [3, 4] and '<option value="4" selected>' in text
    assert 'data-source="measured"' in text and f"{1 / 1.25:.3f}" in section(text, "summary")


def test_recomputing_is_told_from_backward_by_the_reasons():
    plan = {"reasons": {"units": [{"path": "a", "seconds": {"backward": 3.0, "recompute": 1.0}}, {"path": "b"}]}}
    assert steps.recompute_shares(plan) == {"a": 0.25}


def test_communication_counts_calls_and_bytes(folder, tmp_path):
    text, data = page_of(tmp_path, folder)
    rows = {(row["group"], row["kind"]): row for row in data["communication"]}
    assert rows["0→2", "send" if ("0→2", "send") in rows else "receive"]["calls"] == 4
    within = rows["0,1", "all_reduce within modules"]
    assert within["calls"] == 3 * 4 * 2 and within["bytes"] == within["calls"] * 1024 and within["seconds"] is None
    own = rows["0,1", "all_reduce"]
    assert (own["calls"], own["bytes"]) == (1, 4096) and own["exposed_seconds"] == pytest.approx(5e-4)
    assert 'data-group="0,1" data-kind="all_reduce" data-bytes="4096"' in text


def test_communication_of_a_predicted_trace_of_all_ranks_is_that_of_one(folder, tmp_path):
    trace = make_trace(json.loads((folder / "timetable.json").read_text()), slower=1, steps=(1,))
    trace["galvatron"]["kind"] = "predicted"
    (tmp_path / "predicted.json").write_text(json.dumps(trace))
    without, with_trace = page_of(tmp_path, folder)[1], page_of(tmp_path, folder, tmp_path / "predicted.json")[1]
    for one, other in zip(without["communication"], with_trace["communication"]):
        assert one["exposed_seconds"] == pytest.approx(other["exposed_seconds"], abs=1e-9)


def test_what_lowering_says_of_sums_update_and_collectives_is_shown(tmp_path):
    plan, table = make_program()
    end = table["predicted_step_seconds"] - 1e-3
    for stage in table["stages"]:
        stage["sums"], stage["update"] = {"start": end, "seconds": 2e-4}, {"start": end + 2e-4, "seconds": 8e-4}
    for body in table["bodies"]:
        body["calls"][1]["seconds"] = 1e-5
    table |= {"command": "galvatron-opt --lower 'a b.mlir'", "parameters": 1234567}
    text, data = page_of(tmp_path, write_folder(tmp_path / "plan", plan, table))
    assert "1,234,567" in section(text, "summary") and "galvatron-opt --lower &#x27;a b.mlir&#x27;" in section(
        text, "summary"
    )
    assert data["causes"]["predicted"]["update"] == pytest.approx([8e-4, 8e-4])
    rows = {(row["group"], row["kind"]): row for row in data["communication"]}
    within = rows["0,1", "all_reduce within modules"]
    assert within["seconds"] == within["exposed_seconds"] == pytest.approx(24e-5)


def test_curves_of_all_columns_with_gaps(folder, tmp_path):
    (tmp_path / "one.csv").write_text(log_text(30, nan=7, extra="temperature"))
    (tmp_path / "two.csv").write_text(log_text(40, seed=2))
    text, data = page_of(tmp_path, folder, tmp_path / "one.csv", f"second={tmp_path / 'two.csv'}")
    paths = re.findall(r'<path class="item curve[^"]*" data-run="([^"]+)" data-metric="([^"]+)" d="([^"]+)"', text)
    assert [run["name"] for run in data["runs"]] == ["one", "second"]
    assert {metric for run, metric, _ in paths if run == "one"} == {
        "loss", "lr", "grad_norm", "tokens_per_second", "peak_bytes", "eval_loss", "temperature",
    }  # fmt: skip
    assert "temperature" not in {metric for run, metric, _ in paths if run == "second"}
    drawn = {(run, metric): d for run, metric, d in paths}
    assert drawn["one", "loss"].count("M") == 2 and drawn["second", "loss"].count("M") == 1
    assert all(re.fullmatch(r"([ML][0-9.]+,[0-9.]+)+", d) for d in drawn.values())
    # Empty cells are no points: evaluation has one in ten rows, joined.
    assert len(re.findall("[ML]", drawn["second", "eval_loss"])) == 4 and drawn["second", "eval_loss"].count("M") == 1
    assert section(text, "training").count('data-gap="one"') == 3


def test_thinning_keeps_a_spike_and_a_gap():
    whole = [(float(step), 1.0) for step in range(100_000)]
    whole[77_777] = (77777.0, 99.0)
    whole[33_333] = (33333.0, -5.0)
    whole[5_000] = (5000.0, None)
    kept = curves.thin(whole)
    assert len(kept) <= 4 * curves.BUCKETS and {(77777.0, 99.0), (33333.0, -5.0), (5000.0, None)} <= set(kept)
    assert kept == sorted(kept) and kept[0] == whole[0] and kept[-1] == whole[-1]


def test_two_plans_side_by_side(folder, tmp_path):
    plan, table = make_program()
    plan["units"][2]["strategy"] = {"tp": 1, "dp": 2, "recompute": True}
    plan["units"][0]["strategy"] |= {"dp": 1, "zero": 0, "recompute": False, "ep": 1}  # says what is so anyway
    other = write_folder(tmp_path / "other", plan, table)
    text, data = page_of(tmp_path, folder, "--against", other)
    shown = section(text, "comparison")
    differs = dict(zip(attributes(shown, "data-unit"), attributes(shown, "data-differs")))
    assert differs == {u["path"]: "true" if i == 2 else "false" for i, u in enumerate(plan["units"])}
    assert data["against"]["plan"] == plan


def test_without_a_timetable_the_page_says_what_it_cannot_know(tmp_path):
    plan, _ = make_program()
    text, data = page_of(tmp_path, write_folder(tmp_path / "bare", plan))
    assert data["timetable"] is None and "There is no timetable.json beside the plan" in section(text, "summary")
    assert "What the bytes hold is not known" in section(text, "memory") and "No step is known" in section(
        text, "timeline"
    )
    assert text.count("<section id=") == 8


def test_names_are_text(tmp_path):
    bad = "</script><img src=x onerror=alert(1)>"
    folder = write_folder(tmp_path / "plan", *make_program(rename=lambda path: path + bad))
    (tmp_path / "log.csv").write_text(log_text(20, extra="<b>&"))
    text, data = page_of(tmp_path, folder, f"{bad}={tmp_path / 'log.csv'}")
    assert data["runs"][0]["name"] == bad
    assert "<img" not in text and "<b>" not in text and text.count("</script>") == 2
    assert data["units"][0]["path"] == "model.embed" + bad


def test_a_page_asks_nobody_and_is_the_same_again(folder, tmp_path):
    text, _ = page_of(tmp_path, folder)
    assert "default-src 'none'" in text.replace("&#x27;", "'") and not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)", text
    )
    assert page_of(tmp_path, folder)[0] == text


def test_a_page_that_cannot_be_written_leaves_the_older_one(folder, tmp_path, capsys):
    (tmp_path / "old.html").write_text("old")
    assert run(folder, tmp_path / "none.csv", "-o", tmp_path / "old.html") == 1
    assert (tmp_path / "old.html").read_text() == "old" and "none.csv" in capsys.readouterr().err
    assert run(folder, "-o", tmp_path / "none" / "r.html") == 1 and not os.path.exists(tmp_path / "none")
    assert run(folder, "-o", tmp_path / "old.html", "--json", tmp_path / "r.json") == 0
    text = (tmp_path / "old.html").read_text()
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(
        re.search(r'galvatron-data">(.*?)</script>', text).group(1)
    )
    assert sorted(os.listdir(tmp_path)) == ["old.html", "plan", "r.json"]


def test_groups_follow_the_order_of_ranks():
    assert strategies.groups_of({"dp": 3, "tp": 4}, 12, [3, 2, 2]) == {
        "dp": [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]],
        "tp": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
    }
    assert strategies.groups_of({"dp": 3, "tp": 4}, 12, [2, 2, 3])["tp"] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert strategies.groups_of({"tp": 2, "strided": True}, 4, [2, 2])["tp"] == [[0, 2], [1, 3]]
    assert strategies.groups_of({"tp": 2}, 6, None) == {}
    # dp 6 asks for no order of its primes, so both can have theirs.
    plan = {"units": [{"strategy": {"dp": 6}}, {"strategy": {"dp": 3, "tp": 2}}]}
    assert strategies.mesh_of(plan, 6) == [3, 2]
    assert strategies.groups_of({"dp": 6}, 6, [3, 2]) == {"dp": [[0, 1, 2, 3, 4, 5]]}
    plan = {"units": [{"strategy": {"dp": 3, "tp": 2}}, {"strategy": {"dp": 2, "tp": 3}}]}
    assert strategies.mesh_of(plan, 6) is None and strategies.mesh_of(plan | {"mesh": [3, 2]}, 6) == [3, 2]


@pytest.mark.parametrize(
    "strategy, text",
    [
        ({"dp": 2, "tp": 1, "zero": 1}, "dp=2 zero1"),
        ({"tp": 2, "strided": True, "cp": 2, "cp_zigzag": True}, "cp=2 tp=2 zigzag strided"),
        ({"cp": 4, "cp_zigzag": False, "cp_kind": "ring", "zero": 2}, "cp=4 ring contiguous zero2"),
        (
            {"tp": 4, "sequence_parallel": True, "keep_gathered": True, "recompute": True},
            "tp=4 sp recompute keep-gathered",
        ),
        ({"ulysses": 2, "recompute_values": ["a", "b"]}, "dp=2 ulysses=2 recompute-2-values"),
        ({"dp": 4, "ep": 2, "reduce_every_micro_batch": False}, "dp=4 ep=2 reduceonce"),
        ({"dp": 4, "something_new": 3}, "dp=4 something-new=3"),
    ],
)
def test_strategies_are_said_as_the_compiler_says_them(strategy, text):
    assert strategies.describe(strategy, 4) == text


def test_a_large_page_stays_small(tmp_path):
    folder = write_folder(tmp_path / "plan", *make_program(layers=62, stages=8, devices=64, batches=64))
    (tmp_path / "log.csv").write_text(log_text(20_000, spike=7777))
    text, data = page_of(tmp_path, folder, tmp_path / "log.csv")
    assert len(text) < 6_000_000 and len(re.findall(r"<[a-z]", text)) < 20_000
    assert text.count('data-source="predicted"') <= timeline.MOST_ITEMS < sum(
        len(lane["spans"]) for lane in data["timeline"]["sources"][0]["steps"]["1"]
    )
    assert 99.0 in data["runs"][0]["curves"]["loss"]["value"]
    assert sum(leaf["bytes"] for leaf in data["memory"][0]["leaves"]) == data["plan"]["peak_bytes_per_rank"][0]


def test_text_without_a_page(folder, tmp_path, capsys):
    (tmp_path / "log.csv").write_text(log_text(5))
    (tmp_path / "b.csv").write_text(log_text(6))
    assert run(folder) == 0 and "final loss" not in capsys.readouterr().out
    assert run(folder, tmp_path / "log.csv", tmp_path / "b.csv") == 0
    printed = capsys.readouterr().out
    assert (
        "run log\n" in printed
        and "run b\n" in printed
        and re.fullmatch(r"final loss \d\.\d{4}", printed.splitlines()[-1])
    )


def plan_with(**changes):
    return lambda plan, table: plan.update(changes)


def table_with(change):
    return lambda plan, table: change(table)


def wait_for_a_wait(table):
    for index, entry in enumerate(table["stages"][0]["entries"][:2]):
        entry.update(kind="wait", waits_for=1 - index)


def rows_with(change):
    """Changes the table after its buffers and entries became rows."""

    def changed(plan, table):
        table.update(pack_rows(table))
        change(table)

    return changed


@pytest.mark.parametrize(
    "change, message",
    [
        (plan_with(ranks=0), "plan.json: key 'ranks' expects a whole number of at least 1, but got 0"),
        (plan_with(ranks=3), "plan.json: key 'ranks' expects a multiple of the 2 stages, but got 3"),
        (plan_with(units={}), "plan.json: key 'units' expects a list, but got {}"),
        (plan_with(units=[1]), "plan.json: unit 0 expects a module with its path"),
        (plan_with(units=[{"path": "a", "stage": 5}]), "unit 0 key 'stage' expects the number of a stage, but got 5"),
        (plan_with(units=[{"path": "a", "strategy": 1}]), "unit 0 key 'strategy' expects an object, but got 1"),
        (plan_with(units=[{"path": "a", "layer_type": 1}]), "unit 0 key 'layer_type' expects text, but got 1"),
        (plan_with(peak_bytes_per_rank=[1]), "key 'peak_bytes_per_rank' expects bytes of each of 4 ranks"),
        (plan_with(predicted_step_seconds="x"), "key 'predicted_step_seconds' expects a number of at least 0, but got \"x\""),
        (plan_with(reasons=[]), "key 'reasons' expects an object, but got []"),
        (plan_with(micro_batches=2), "timetable.json: expects the program of"),
        (lambda p, t: p["units"][1].update(path="b"), "but module 1 is 'b' of stage 0 there and 'model.layers.0' of stage 0 here"),
        (lambda p, t: p["peak_bytes_per_rank"].__setitem__(2, 5), "peak_bytes_per_rank of rank 2 is 5 there and"),
        (lambda p, t: t["stages"].append(t["stages"][0]), "the number of ranks is 4 there and 6 here; lower the plan again"),
        (table_with(lambda t: t.update(format="x")), "timetable.json: expects the timetable.json of an output folder, but its key"),
        (table_with(lambda t: t.update(version=3)), "key 'version' expects 1 or 2, but got 3; lower the plan again"),
        (table_with(lambda t: t.update(version=2)), "keys 'words' and 'shapes' expect texts and lists of keys"),
        (rows_with(lambda t: t["words"].append(1)), "keys 'words' and 'shapes' expect texts and lists of keys"),
        (rows_with(lambda t: t["shapes"].append(1)), "keys 'words' and 'shapes' expect texts and lists of keys"),
        (rows_with(lambda t: t["stages"][0]["entries"][1].pop()), "stage 0 entry 1 expects a row, the number of one of"),
        (rows_with(lambda t: t["stages"][1]["buffers"][0].__setitem__(0, 99)), "stage 1 buffer 0 expects a row, the number"),
        (rows_with(lambda t: t["stages"][0]["entries"][0].__setitem__(1, -1)), "entry 0 key 'kind' expects the number of one of"),
        (rows_with(lambda t: t["stages"][0]["entries"][0].__setitem__(1, [0, "x"])), "words, but got [0, \"x\"]"),
        (table_with(lambda t: t.update(devices_per_stage=0)), "key 'devices_per_stage' expects a whole number of at least 1"),
        (table_with(lambda t: t.update(stages=1)), "key 'stages' expects a list; lower the plan again"),
        (table_with(lambda t: t.update(predicted_step_seconds=-1)), "key 'predicted_step_seconds' expects a number of at least 0"),
        (table_with(lambda t: t["stages"][0].pop("groups")), "stage 0 expects lists of groups, buffers and entries"),
        (table_with(lambda t: t["stages"][0].update(arena_bytes=-1)), "stage 0 key 'arena_bytes' expects a whole number"),
        (table_with(lambda t: t["stages"][0]["buffers"][0].update(kind="x")), "stage 0 buffer 0 expects a name and a kind of weight,"),
        (table_with(lambda t: t["stages"][0]["buffers"][0].update(bytes=10**9)), "buffer 0 expects bytes and offset within the arena"),
        (table_with(lambda t: t["stages"][0]["buffers"][0].update(unit=1)), "buffer 0 key 'unit' expects text"),
        (table_with(lambda t: t["stages"][0]["buffers"][-1].update(last=999)), "expects first and last of"),
        (table_with(lambda t: t["stages"][0]["entries"][0].pop("name")), "stage 0 entry 0 expects a name and a kind"),
        (table_with(lambda t: t["stages"][0]["entries"][0].update(start="x")), "entry 0 key 'start' expects a number of at least 0"),
        (table_with(lambda t: t["stages"][0]["entries"][0].update(category="x")), "entry 0 key 'category' is \"x\", which is none"),
        (table_with(lambda t: t["stages"][0]["entries"][0].update(stream=1)), "entry 0 key 'stream' expects text"),
        (plan_with(x=float("nan")), "plan.json: expects the plan.json of an output folder, but it is no JSON (NaN is no number"),
        (table_with(lambda t: t["units"].__setitem__(0, 1)), "timetable.json: unit 0 expects path and stage"),
        (table_with(lambda t: t["units"][0].update(layer_type=1)), "unit 0 key 'layer_type' expects text"),
        (table_with(lambda t: t.update(command=1)), "key 'command' expects text; lower the plan again"),
        (table_with(lambda t: t["bodies"].append({})), "body 2 expects a name and calls"),
        (table_with(lambda t: t["bodies"][0]["calls"][1].pop("group")), "body 0 call 1 expects bytes and seconds, and of a"),
        (table_with(lambda t: t["bodies"][0]["calls"][1].update(group=7)), "communicates over group 7, which its stage does not"),
        (table_with(lambda t: t["stages"][0]["groups"][0].update(loops=[1])), "stage 0 group 0 expects loops of [ranks, distance]"),
        (table_with(lambda t: t["stages"][0]["groups"][0].update(loops=[[10**9, 1]])), "group 0 key 'loops' expects some of the 4 ranks"),
        (table_with(wait_for_a_wait), "key 'waits_for' expects what was begun, but entry"),
        (table_with(lambda t: t["stages"][0]["groups"][0].update(stages=[7])), "key 'stages' expects numbers of the 2 stages"),
        (table_with(lambda t: t["stages"][1]["entries"][0].pop("peer")), "entry 0 key 'peer' expects the number of one of 2, but"),
        (table_with(lambda t: t["stages"][0]["entries"][0].update(body="x")), "key 'body' expects the name of a body, but got \"x\""),
        (table_with(lambda t: t["stages"][0].update(sums=1)), "stage 0 key 'sums' expects start and seconds"),
    ],
)  # fmt: skip
def test_a_damaged_plan_or_timetable_is_named(change, message, tmp_path, capsys):
    plan, table = make_program()
    change(plan, table)
    assert run(write_folder(tmp_path / "plan", plan, table), "-o", tmp_path / "r.html") == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "r.html").exists()


HEADER = "step,loss,tokens_per_second"


@pytest.mark.parametrize(
    "content, message",
    [
        (f"{HEADER},note\n1,2,3,good\n", "but line 2 has 'good' as note; leave the cell empty, or take the column out"),
        (f"{HEADER}\n1,2\n", "but line 2 has 2 cells, not 3"),
        (f"{HEADER},loss\n1,2,3,4\n", "but it has the column 'loss' twice"),
        (f"{HEADER}\nnan,2,3\n", "but line 2 has no step"),
        (f"{HEADER}\n1,2,3\n3,2,3\n2,2,3\n", "line 4 has step 2 after step 3; give the log of one run"),
        (f"{HEADER}\n1,2,3\n1,2,3\n", "line 3 has step 1 after step 1; give the log of one run"),
        (f"{HEADER}\n", "has no steps yet; give the log of a run that has trained"),
    ],
)
def test_a_damaged_log_is_named(content, message, folder, tmp_path, capsys):
    (tmp_path / "log.csv").write_text(content)
    assert run(folder, tmp_path / "log.csv", "-o", tmp_path / "r.html") == 1
    error = capsys.readouterr().err
    assert "log.csv" in error and message in error and not (tmp_path / "r.html").exists()


def test_rows_of_a_timetable_are_read_as_objects(tmp_path):
    plan, table = make_program()
    path = write_folder(tmp_path / "rows", plan, pack_rows(table)) / "timetable.json"
    assert len(path.read_text()) < len(json.dumps(table)) and read_timetable(str(path)) == table


def test_inputs_that_do_not_go_together(folder, tmp_path, capsys):
    table = json.loads((folder / "timetable.json").read_text())
    trace, log = tmp_path / "t.json", tmp_path / "log.csv"
    trace.write_text(json.dumps(make_trace(table))), log.write_text(log_text(5))

    def fails(message, *arguments):
        assert run(*arguments, "-o", tmp_path / "r.html") == 1 and message in capsys.readouterr().err

    fails("expects one measured trace, but", folder, trace, trace)
    fails("two runs are called 'a'; name them with NAME=FILE", folder, f"a={log}", f"a={log}")
    trace.write_text(json.dumps(make_trace(table, plan="xyz")))
    fails("which is abc, but it is of xyz; trace that program, or give the folder that was traced", folder, trace)
    bare = write_folder(tmp_path / "bare", make_program(layers=0, stages=1)[0])
    fails("expects 2 ranks in 1 stages", bare, trace)
    fails("expects an output folder of galvatron-opt --lower, but it has no plan.json", tmp_path)
    renamed = write_folder(tmp_path / "renamed", make_program(rename=lambda path: path.replace("layers.2", "other"))[0])
    fails(
        "but module 3 is 'model.other' there and 'model.layers.2' here; give a plan of the same model",
        folder,
        "--against",
        renamed,
    )


def test_nothing_that_is_read_is_written_over(folder, tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text(log_text(3))
    before = {file: file.read_bytes() for file in (log, folder / "plan.json", folder / "timetable.json")}
    link = tmp_path / "link.html"
    link.symlink_to(log)
    page = tmp_path / "page.html"
    for words, flag, read in (
        ((folder, log, "-o", log), "-o", log),
        ((folder, f"run={log}", "-o", log), "-o", log),
        ((folder, log, "-o", link), "-o", log),
        ((folder, log, "-o", page, "--json", log), "--json", log),
        ((folder, log, "-o", folder / "plan.json"), "-o", folder / "plan.json"),
        ((folder / "plan.json", log, "--json", folder / "timetable.json"), "--json", folder / "timetable.json"),
        (("--compare", log, folder / "plan.json", "-o", log), "-o", log),
    ):
        assert run(*words) == 1
        told = capsys.readouterr().err
        assert f"error: {flag} " in told and f"would take the place of {read}, which is read; name another file" in told
    assert run(folder, log, "-o", page, "--json", page) == 1
    assert f"-o and --json are both {page}; name two files" in capsys.readouterr().err
    assert not page.exists() and all(file.read_bytes() == text for file, text in before.items())


def test_files_that_are_not_there(folder, tmp_path, capsys):
    assert run(tmp_path / "nosuch") == 1
    assert "nosuch: No such file or directory; name a file that is there" in capsys.readouterr().err
    assert run(folder, "-o", tmp_path / "none" / "page.html") == 1
    assert f"there is no folder {tmp_path / 'none'}; make it first" in capsys.readouterr().err
