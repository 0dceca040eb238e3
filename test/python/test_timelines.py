"""galvatron.report --compare: two traces by hand, whose differences are known."""

import json
import re

import pytest

from galvatron import report, timelines


def span(rank, name, start, duration, category="compute", entry=0, unit="", step=1, tid=0):
    return {
        "ph": "X",
        "pid": rank,
        "tid": tid,
        "name": name,
        "cat": category,
        "ts": start,
        "dur": duration,
        "args": {"entry": entry, "stage": rank, "unit": unit, "micro_batch": 0, "step": step, "bytes": 0},
    }


def trace(kind, seconds, events, plan="abc", **more):
    head = {"kind": kind, "plan": plan, "clock_error_us": 2.5, "step_seconds": seconds} | more
    names = [{"ph": "M", "pid": 0, "tid": 0, "name": "thread_name", "args": {"name": "compute"}}]
    return {"galvatron": head, "traceEvents": names + events}


def predicted():
    # Two stages: the second waits for the first.
    events = [
        span(0, "forward a micro-batch 0", 0, 100, unit="a"),
        span(0, "send to stage 1", 100, 10, "send", entry=1, tid=5),
        span(1, "receive from stage 0", 0, 110, "receive", entry=0, tid=4),
        span(1, "forward b micro-batch 0", 110, 90, unit="b", entry=1),
        span(1, "update", 200, 45, "update", entry=-1),
    ]
    return trace("predicted", 250e-6, events, layer_types={"a": "decoder", "b": "<head>"})


def measured(step=4):
    events = [
        span(0, "forward a micro-batch 0", 1000, 130, unit="a", step=step),
        span(0, "send to stage 1", 1130, 10, "send", entry=1, tid=5, step=step),
        span(1, "receive from stage 0", 1000, 145, "receive", entry=0, tid=4, step=step),
        # Overlapped with what it computes, a collective is not what the step waits for.
        span(1, "forward b micro-batch 0", 1145, 80, unit="b", entry=1, step=step),
        span(1, "update", 1235, 45, "update", entry=-1, step=step),
    ]
    return trace("measured", 300e-6, events)


def of_stage(trace, stage, other):
    """As if one stage had another number."""
    for event in trace["traceEvents"]:
        if event["ph"] == "X" and event["args"]["stage"] == stage:
            event["args"]["stage"] = other


@pytest.fixture
def files(tmp_path):
    def write(one=None, other=None):
        paths = [tmp_path / "predicted.json", tmp_path / "measured.json"]
        for path, value in zip(paths, (one or predicted(), other or measured())):
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return [str(path) for path in paths]

    return write


def run(files, *more):
    return report.main(["--compare", *files, *map(str, more)])


def test_errors_add_up_to_the_steps(files, tmp_path, capsys):
    assert run(files(), "--json", tmp_path / "c.json") == 0
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["error_seconds"] == pytest.approx(-50e-6)
    assert sum(row["error_seconds"] for row in result["rows"]) == pytest.approx(-50e-6)
    for which in ("predicted", "measured"):
        whole = result[f"{which}_step_seconds"]
        assert sum(row[f"{which}_seconds"] for row in result["rows"]) == pytest.approx(whole)
    rows = {(row["phase"], row["layer_type"], row["stage"]): row for row in result["rows"]}
    # Half of each, as there are two stages.
    assert rows["forward", "decoder", 0]["error_seconds"] == pytest.approx(-15e-6)
    assert rows["forward", "<head>", 1]["error_seconds"] == pytest.approx(5e-6)
    assert rows["exposed receive", "-", 1]["error_seconds"] == pytest.approx(-17.5e-6)
    assert rows["idle", "-", 1]["measured_seconds"] == pytest.approx(5e-6)
    assert rows["update", "-", 1]["error_seconds"] == pytest.approx(0)
    errors = [abs(row["error_seconds"]) for row in result["rows"]]
    assert errors == sorted(errors, reverse=True)
    assert result["slowest_rank"] == {"rank": 0, "compute_seconds": pytest.approx(130e-6)}
    assert result["longest_wait"]["name"] == "receive from stage 0" and result["longest_wait"]["rank"] == 1
    printed = capsys.readouterr().out
    assert "step" in printed and "-16.7%" in printed
    assert "longest wait: 0.145 ms of rank 1 in step 4, 'receive from stage 0'" in printed
    assert "slowest rank: 0, which computes for 0.130 ms a step" in printed


def test_other_rows_are_one(files, capsys):
    assert run(files(), "--top", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\d+ others", lines[2]) and lines[3].startswith("step")


def test_a_span_within_what_it_waits_for_counts_once(files):
    spans = [
        timelines.Span(0, 1, "reduce", "collective", 0, 10, 0, 0, "", 1),
        timelines.Span(0, 0, "backward", "compute", 2, 4, 1, 0, "", 1),
        timelines.Span(0, 0, "end of reduce", "collective", 8, 2, 2, 0, "", 1),
    ]
    assert timelines.cause_lengths(spans) == {0: 4, 1: 4, 2: 2}


def test_page_holds_both_timelines_and_asks_nobody(files, tmp_path):
    hostile = predicted()
    hostile["traceEvents"][1]["name"] = hostile_name = "forward </script><img src=x onerror=alert(1)>"
    other = measured()
    other["traceEvents"][1]["name"] = hostile_name
    page = tmp_path / "compare.html"
    paths = files(hostile, other)
    assert run(paths, "-o", page) == 0
    text = page.read_text()
    assert text.index('<section id="predicted">') < text.index('<section id="measured">') < text.index('<section id="errors">')
    assert text.count('data-source="predicted"') == 5 and text.count('data-source="measured"') == 5
    assert 'data-stage="1" data-start="0.000110000" data-duration="0.000090000"' in text
    assert "<img" not in text and "&lt;img" in text and "&lt;head&gt;" in text
    assert "default-src 'none'" in text and "http:" not in text and "https:" not in text
    assert run(paths, "-o", page) == 0 and page.read_text() == text
    assert run(paths, "-o", tmp_path / "none" / "compare.html") == 1
    assert run(files(measured(), hostile), "-o", page) == 1 and page.read_text() == text


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p, m: m["galvatron"].update(plan="xyz"), "expects traces of one plan, but .* is of abc and .* of xyz"),
        (lambda p, m: m["galvatron"].update(kind="predicted"), "measured.json: expects a measured trace, but it is predicted"),
        (lambda p, m: p["galvatron"].update(kind="guessed"), "key 'kind' expects predicted or measured, but got \"guessed\""),
        (lambda p, m: p["galvatron"].pop("plan"), "key 'plan' expects the plan's hash, but got null"),
        (lambda p, m: p["galvatron"].update(step_seconds=0), "key 'step_seconds' expects a number of at least 1e-12, but got 0"),
        (lambda p, m: p["galvatron"].update(clock_error_us="x"), "key 'clock_error_us' expects a number of at least 0"),
        (lambda p, m: p["galvatron"].update(layer_types=[1]), "key 'layer_types' expects layer types by module path"),
        (lambda p, m: p.pop("galvatron"), "but it has no galvatron and traceEvents; name a log of launch --log, or a trace"),
        (lambda p, m: m["traceEvents"].insert(0, {"ph": "M", "name": "thread_name", "pid": [1], "tid": 0, "args": {}}), "event 0 expects a thread's pid, tid and args"),
        (lambda p, m: m["traceEvents"].insert(0, {"ph": "M", "name": "thread_name", "pid": 1, "tid": 0, "args": 1}), "event 0 expects a thread's pid, tid and args"),
        (lambda p, m: p["traceEvents"].clear(), "has no entries; name steps that the run trains with --trace-steps"),
        (lambda p, m: p["traceEvents"].append(1), "event 6 expects an object, but got 1"),
        (lambda p, m: p["traceEvents"][1].pop("args"), "event 1 lacks its args; --trace and --simulate write them"),
        (lambda p, m: p["traceEvents"][1].update(name=3), "event 1 expects text as name, but got 3"),
        (lambda p, m: p["traceEvents"][1].update(cat="x"), "event 1 expects cat to be one of compute, .* but got 'x'"),
        (lambda p, m: p["traceEvents"][1].update(dur=-1), "event 1 dur expects a number of at least 0, but got -1"),
        (lambda p, m: p["traceEvents"][1].update(dur=1e30), r"event 1 dur expects a number of at most 1e\+12, but got 1e\+30"),
        (lambda p, m: p["traceEvents"][1].update(ts=-1e30), r"event 1 ts expects a number of at least -1e\+18, but got -1e\+30"),
        (lambda p, m: p["traceEvents"][1].update(pid=1.5), "event 1 pid expects a whole number of at least 0, but got 1.5"),
        (
            lambda p, m: m["traceEvents"][1].update(name="forward c"),
            "expects the same entries in both traces, but entry 0 of stage 0 is 'forward a micro-batch 0' in .* and 'forward c'",
        ),
        (
            lambda p, m: [of_stage(t, 1, 2) for t in (p, m)],
            "expects entries of stages 0 to 2 in each step; trace it again",
        ),
        (
            lambda p, m: m["traceEvents"].extend(measured(step=9)["traceEvents"][1:3]),
            "measured.json: rank 1, step 9 has no entries, but other steps have some; trace it again",
        ),
        (
            lambda p, m: m["traceEvents"].pop(1),
            "expects the same entries in both traces, but entry 0 of stage 0 is 'forward a micro-batch 0' in .* and None in",
        ),
        (
            # Another step has it.
            lambda p, m: m["traceEvents"].extend([*measured(step=5)["traceEvents"][2:]]),
            "measured.json: rank 0, step 5 lacks entry 0, 'forward a micro-batch 0'; trace it again",
        ),
        (
            lambda p, m: m["traceEvents"].append(dict(m["traceEvents"][2])),
            "measured.json: rank 0, step 4 has entry 1 2 times; trace it again",
        ),
        (
            lambda p, m: p["traceEvents"].append(dict(p["traceEvents"][5])),
            "predicted.json: rank 1, step 1 has 'update' 2 times; trace it again",
        ),
        (
            lambda p, m: m["traceEvents"][2]["args"].update(stage=1),
            "measured.json: rank 0, step 4 has entries of several stages; trace it again",
        ),
    ],
)
def test_refuses(change, message, files, capsys):
    one, other = predicted(), measured()
    change(one, other)
    assert run(files(one, other)) == 1
    assert re.search(message, capsys.readouterr().err)


def test_refuses_outputs_that_cannot_be(files, tmp_path, capsys):
    for option in ("-o", "--json"):
        assert run(files(), option, tmp_path / "none" / "c") == 1
        assert f"cannot write {tmp_path}/none/c: there is no folder {tmp_path}/none; make it first" in capsys.readouterr().err
        assert run(files(), option, tmp_path) == 1
        assert f"cannot write {tmp_path}: it is a folder; name a file in it" in capsys.readouterr().err
    # One of two that cannot be: none is written.
    assert run(files(), "--json", tmp_path / "c.json", "-o", tmp_path / "none" / "c") == 1
    assert not (tmp_path / "c.json").exists()


def test_refuses_what_is_no_json(files, capsys):
    assert run(files("{")) == 1
    assert "expects a trace of --trace or --simulate, but it is no JSON" in capsys.readouterr().err
    assert report.main(["--compare", "none.json", "none.json"]) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--compare", "a", "b", "c"], "--compare takes two traces and nothing else"),
        ([], "expects a plan.json or an output folder, or --compare with two traces"),
        (["--compare", "a", "b", "--top", "0"], "--top expects at least 1, but got 0"),
    ],
)
def test_usage(arguments, message, capsys):
    with pytest.raises(SystemExit):
        report.main(arguments)
    assert message in capsys.readouterr().err
