"""Output folders, logs and traces for tests of galvatron.report, written without a compiler."""

import json
import random

DECODER = {"tp": 2, "sequence_parallel": True}


def unit(path, stage=0, layer_type="decoder", **strategy):
    return {"path": path, "layer_type": layer_type, "stage": stage, "strategy": strategy}


def one_f_one_b(stage, stages, batches):
    """(is forward, micro-batch) in order."""
    warm = min(stages - stage, batches)
    order = [(True, batch) for batch in range(warm)]
    for batch in range(batches):
        order.append((False, batch))
        if batch + warm < batches:
            order.append((True, batch + warm))
    return order


def make_stage(number, stages, paths, batches, devices):
    buffers, entries, offset, clock = [], [], 64, 1e-3 * number
    for path in paths:
        for kind in ("weight", "first_moment", "second_moment", "gradient"):
            buffers.append(
                {
                    "name": f"{kind} of {path}",
                    "unit": path,
                    "kind": kind,
                    "bytes": 4096,
                    "offset": offset,
                    "persistent": True,
                }
            )
            offset += 4096
    begin, width = offset, 512 * len(paths)
    slots, saved = {}, {}

    def add(entry, seconds):
        nonlocal clock
        entries.append(entry | {"start": round(clock, 9), "seconds": seconds})
        clock += seconds

    for is_forward, batch in one_f_one_b(number, stages, batches):
        word = "forward" if is_forward else "backward"
        if is_forward:
            slots[batch] = next(slot for slot in range(batches + 1) if slot not in slots.values())
        peer = number - 1 if is_forward else number + 1
        if 0 <= peer < stages:
            add({"kind": "receive", "name": f"receive from stage {peer} micro-batch {batch}", "micro_batch": batch,
                 "stream": f"from stage {peer}", "category": "receive", "bytes": 2048, "peer": peer}, 1e-4)  # fmt: skip
        for layer, path in enumerate(paths if is_forward else reversed(paths)):
            if is_forward:
                saved[batch, path] = len(entries)
            else:
                buffers.append(
                    {"name": f"saved by {path} micro-batch {batch}", "unit": path, "kind": "activation", "bytes": 512,
                     "offset": begin + width * slots[batch] + 512 * (len(paths) - 1 - layer),
                     "first": saved[batch, path], "last": len(entries)}
                )  # fmt: skip
            add({"kind": word, "name": f"{word} {path} micro-batch {batch}", "unit": path, "micro_batch": batch,
                 "body": f"decoder.{word}"}, 1e-3 if is_forward else 2e-3)  # fmt: skip
        if not is_forward:
            del slots[batch]
    add({"kind": "all_reduce", "name": f"reduce gradients of {paths[0]}", "unit": paths[0], "stream": "gradients",
         "category": "collective", "bytes": 4096, "group": 0}, 5e-4)  # fmt: skip
    arena = max(b["offset"] + b["bytes"] for b in buffers)
    groups = [{"loops": [[devices, 1]], "axes": [0]}] if devices > 1 else [{"loops": []}]
    return {
        "stage": number,
        "arena_bytes": arena,
        "update_bytes": 0,
        "groups": groups,
        "buffers": buffers,
        "entries": entries,
    }


def make_program(layers=4, stages=2, devices=2, batches=4, rename=lambda path: path, mixed=True):
    """(plan, timetable) of a decoder whose layers are spread over the stages."""
    paths = [rename(path) for path in ["model.embed", *(f"model.layers.{i}" for i in range(layers)), "lm_head"]]
    stage_of = [min(index * stages // len(paths), stages - 1) for index in range(len(paths))]
    units = []
    for index, (path, stage) in enumerate(zip(paths, stage_of)):
        strategy = {"dp": devices, "zero": 1 + index % 3} if mixed and index % 2 else {"tp": devices}
        units.append(
            unit(path, stage, "embedding" if index == 0 else "head" if path == paths[-1] else "decoder", **strategy)
        )
    table_stages = [
        make_stage(number, stages, [p for p, s in zip(paths, stage_of) if s == number], batches, devices)
        for number in range(stages)
    ]
    end = max(e["start"] + e["seconds"] for s in table_stages for e in s["entries"])
    plan = {
        "format": "galvatron-plan", "version": 1, "ranks": stages * devices, "pipeline": stages, "schedule": "1f1b",
        "global_batch": 2 * batches, "micro_batches": batches, "predicted_step_seconds": end + 1e-3,
        "peak_bytes_per_rank": [s["arena_bytes"] for s in table_stages for _ in range(devices)], "units": units,
        "model_flops_per_step": 10**9, "peak_flops_per_second": 10**12,
    }  # fmt: skip
    collective = {"function": "all_reduce", "bytes": 1024.0, "collective": "all_reduce", "group": 0}
    table = {
        "format": "galvatron-timetable", "version": 1, "created_by": "galvatron-opt 0.1.0", "plan": "abc", "model": "llama",
        "target": "cpu", "precision": "fp32", "schedule": "1f1b", "devices_per_stage": devices, "global_batch": 2 * batches,
        "micro_batches": batches, "sequence": 64, "predicted_step_seconds": end + 1e-3,
        "cluster": {"nodes": 1, "devices_per_node": stages * devices, "device": "cpu", "memory_bytes_per_device": 10**6},
        "units": [{key: u[key] for key in ("path", "layer_type", "stage")} for u in units],
        "bodies": [{"name": f"decoder.{word}", "calls": [{"function": "matmul", "flops": 1.0}, collective]} for word in ("forward", "backward")],
        "stages": table_stages,
    }  # fmt: skip
    return plan, table


def pack_rows(table):
    """The same timetable with rows for buffers and entries, as large programs have it."""
    words, shapes = [], []

    def number(table, value):
        if value not in table:
            table.append(value)
        return table.index(value)

    def value_of(key, value):
        if key not in ("kind", "name", "unit", "stream", "category", "body"):
            return value
        word, _, last = value.rpartition(" ")
        return [number(words, word), int(last)] if last.isdigit() else number(words, value)

    def row(element):
        return [number(shapes, list(element)), *(value_of(key, value) for key, value in element.items())]

    stages = [
        stage | {key: [row(element) for element in stage[key]] for key in ("buffers", "entries")}
        for stage in table["stages"]
    ]
    return table | {"version": 2, "words": words, "shapes": shapes, "stages": stages}


def make_trace(table, slower=1.25, plan="abc", steps=(3, 4)):
    """What --trace would have written: every rank, all entries `slower`."""
    devices = table["devices_per_stage"]
    events = []
    for step in steps:
        for number, stage in enumerate(table["stages"]):
            for rank in range(number * devices, (number + 1) * devices):
                for index, entry in enumerate(stage["entries"]):
                    thread = 0 if "stream" not in entry else 1 + ["gradients"].count(entry["stream"])
                    events.append(
                        {"ph": "X", "pid": rank, "tid": thread, "name": entry["name"], "cat": entry.get("category", "compute"),
                         "ts": entry["start"] * slower * 1e6 + step * 1e6, "dur": entry["seconds"] * slower * 1e6,
                         "args": {"entry": index, "stage": number, "unit": entry.get("unit", ""), "micro_batch": 0, "step": step,
                                  "bytes": 0}}
                    )  # fmt: skip
    seconds = table["predicted_step_seconds"] * slower
    head = {"kind": "measured", "plan": plan, "clock_error_us": 1.0, "step_seconds": seconds, "steps": list(steps)}
    return {"galvatron": head, "traceEvents": events}


def log_text(steps=50, seed=1, spike=None, nan=None, extra=""):
    draw = random.Random(seed)
    lines = ["step,loss,lr,grad_norm,tokens_per_second,peak_bytes,eval_loss" + (f",{extra}" if extra else "")]
    for step in range(1, steps + 1):
        loss = 99.0 if step == spike else 5 / step**0.3 + draw.random() * 0.01
        cells = ["nan"] * 3 if step == nan else [f"{loss:.6f}", f"{1e-3 / step:.9f}", f"{draw.random() + 0.5:.6f}"]
        lines.append(
            f"{step},{','.join(cells)},{1000 + step % 7},4096,{f'{loss:.4f}' if step % 10 == 0 else ''}"
            + (f",{step * 2}" if extra else "")
        )
    return "\n".join(lines) + "\n"


def write_folder(path, plan, table=None):
    path.mkdir(exist_ok=True)
    (path / "plan.json").write_text(json.dumps(plan))
    if table:
        (path / "timetable.json").write_text(json.dumps(table))
    return path
