"""The sections of words and tables: summary, strategies, what-if, comparison."""

from __future__ import annotations

from galvatron.report_page import strategies
from galvatron.report_page.inputs import Program
from galvatron.report_page.timetables import is_number
from galvatron.report_page.markup import details, key, note, seconds, size, table, tag, text


def units_of(program: Program, causes: dict, records: list[dict], letters: dict[str, int]) -> list[dict]:
    """`units` of the page's data: of each module its strategy in words, its time by cause and its bytes by kind.

    `letters` numbers strategies, of two plans as one.
    """
    reasons = program.plan.get("reasons", {}).get("units", [])
    reasons = reasons if isinstance(reasons, list) else []
    why = {unit["path"]: unit for unit in reasons if isinstance(unit, dict) and isinstance(unit.get("path"), str)}
    units = []
    by_stage = {record["stage"]: record for record in records}
    for unit in program.plan["units"]:
        words = strategies.describe(unit.get("strategy", {}), program.devices)
        number = letters.setdefault(words, len(letters))
        path, stage = unit["path"], unit.get("stage", 0)
        kinds: dict[str, int] = {}
        for leaf in by_stage.get(stage, {}).get("leaves", []):
            if leaf["unit"].partition(":")[0] == path or leaf["unit"].startswith(path + "."):
                kinds[leaf["kind"]] = kinds.get(leaf["kind"], 0) + leaf["bytes"]
        own = causes.get(path) or searched_seconds(why.get(path, {}))
        units.append(
            {
                "path": path,
                "stage": stage,
                "layer_type": unit.get("layer_type", ""),
                "strategy": words,
                "number": number,
                "seconds": own,
                "bytes": kinds,
                "alternatives": alternatives_of(why.get(path, {})),
            }
        )
    return units


def searched_seconds(reason: dict) -> dict[str, float]:
    own = reason.get("seconds", {}) if isinstance(reason, dict) else {}
    names = {"communication": "communication of the search", "redistribution": "redistribution", "step": "once a step"}
    return {names.get(k, k): v for k, v in own.items() if is_number(v)} if isinstance(own, dict) else {}


def alternatives_of(reason: dict) -> list[dict]:
    found = reason.get("alternatives", []) if isinstance(reason, dict) else []
    found = found if isinstance(found, list) else []
    return [
        {"strategy": str(each.get("text", "")), "lost_by": str(each.get("lost_by", ""))}
        for each in found
        if isinstance(each, dict)
    ]


def mark_of(number: int) -> str:
    letters = strategies.LETTERS
    return (
        letters[number]
        if number < len(letters)
        else mark_of(number // len(letters) - 1) + letters[number % len(letters)]
    )


def tell_unit(unit: dict) -> str:
    """What hover and focus show of a module."""
    lines = [f"{unit['path']}, stage {unit['stage']}: {unit['strategy']}"]
    if unit["seconds"]:
        lines.append(
            "time a step: " + ", ".join(f"{cause} {seconds(s)}" for cause, s in unit["seconds"].items() if s > 0)
        )
    if unit["bytes"]:
        lines.append(
            "at the fullest entry: "
            + ", ".join(f"{kind.replace('_', ' ')} {size(b)}" for kind, b in unit["bytes"].items())
        )
    lines += [f"{each['strategy']}: {each['lost_by']}" for each in unit["alternatives"]]
    return "\n".join(lines)


def strip(units: list[dict], drawing: str, differs: set[str] | None = None, chosen: bool = False) -> str:
    """The modules in order, of each stage together; colour and letter say the strategy. `chosen`: the first one is."""
    content, buttons, first = "", "", True
    for unit, after in zip(units, [*units[1:], None]):
        name = unit["path"].rpartition(".")[2]
        more = {} if differs is None else {"data_differs": "true" if unit["path"] in differs else "false"}
        buttons += tag(
            "button", f"{mark_of(unit['number'])} {text(name)}", type="button",
            class_=f"unit s-{unit['number'] % strategies.COLOURS}", data_unit=unit["path"], data_stage=unit["stage"],
            data_strategy=unit["strategy"], data_tip=tell_unit(unit), tabindex=0 if first else -1,
            aria_pressed=("true" if first else "false") if chosen else None, **more,
        )  # fmt: skip
        first = False
        if (
            after is None or after["stage"] != unit["stage"]
        ):  # a part of a stage: with interleaved schedules one of several
            content += f'<div class="stage"><span>stage {unit["stage"]}</span>{buttons}</div>'
            buttons = ""
    return f'<div class="strip" role="group" aria-label="{text(drawing)}" data-drawing="">{content}</div>'


def write_strategies(program: Program, units: list[dict]) -> str:
    seen = {unit["number"]: unit["strategy"] for unit in units}
    meanings = [(f"s-{number % strategies.COLOURS}", mark_of(number), words) for number, words in seen.items()]
    content = key(meanings) + strip(units, "modules in order, by stage and strategy", chosen=True)
    content += '<h3 id="ranks-title">Ranks of the chosen module</h3><div id="ranks" aria-live="polite"></div>'
    rows = [[unit["path"], unit["stage"], f"{mark_of(unit['number'])} {unit['strategy']}",
             seconds(sum(unit["seconds"].values())), size(sum(unit["bytes"].values())),
             "; ".join(f"{e['strategy']}: {e['lost_by']}" for e in unit["alternatives"]) or "–"] for unit in units]  # fmt: skip
    head = ["module", "stage", "strategy", "time a step", "bytes at the fullest entry", "runners-up"]
    if not any(unit["alternatives"] for unit in units):
        content += note("No runners-up are known: the plan has no reasons, which a search writes.")
    return content + details("Figures of the modules", table(head, rows, 3))


def groups_data(program: Program) -> dict:
    """Of each strategy in words the groups of each degree, by number of the rank within its stage."""
    mesh = strategies.mesh_of(program.plan, program.devices)
    found = {}
    for unit in program.plan["units"]:
        strategy = unit.get("strategy", {})
        words = strategies.describe(strategy, program.devices)
        if words not in found:
            found[words] = strategies.groups_of(strategy, program.devices, mesh)
    return found


def write_summary(figures: dict) -> str:
    names = [
        ("model", "model"), ("parameters", "parameters"), ("precision", "precision"), ("cluster", "cluster"), ("plan", "plan"),
        ("predicted_step", "predicted step"), ("measured_step", "measured step"), ("ratio", "predicted ÷ measured"),
        ("tokens_per_second", "tokens a second"), ("mfu", "MFU"), ("peaks", "peak of a rank"), ("budget", "budget of a rank"),
        ("version", "written by"), ("command", "command"),
    ]  # fmt: skip
    rows = ""
    for name, words in names:
        value = figures.get(name) or "not known"
        shown = f"<code>{text(value)}</code>" if name == "command" and figures.get(name) else text(value)
        rows += f'<dt>{words}</dt><dd data-figure="{name}">{shown}</dd>'
    return f"<dl>{rows}</dl>" + "".join(note(words) for words in figures["missing"])


def write_what_if(plan: dict, stages: int) -> str:
    reasons = plan.get("reasons") or {}
    if not reasons:
        return note(
            "Nothing is known: the plan has no reasons, which galvatron-opt --search and galvatron-search write."
        )

    def saves(key_: str) -> str:
        share = reasons.get(key_)
        if isinstance(share, dict):
            share = share.get("share", share.get("seconds"))
        return f"{share:.2%} of the step" if isinstance(share, (int, float)) else "not asked"

    def number(value) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    rows = [
        ["10 % more memory would save", saves("ten_percent_more_memory_saves")],
        ["10 % more bandwidth would save", saves("ten_percent_more_bandwidth_saves")],
        ["memory binds at", reasons.get("memory_binds_at") or "no module"],
        ["slowest stage", reasons.get("slowest_stage", "–")],
        ["fullest stage", reasons.get("fullest_stage", "–")],
        ["free there", size(reasons["free_bytes"]) if number(reasons.get("free_bytes")) else "–"],
        ["idle share of the timetable", f"{reasons['bubble']:.1%}" if number(reasons.get("bubble")) else "–"],
    ]
    content = table(["question", "answer"], rows, 2)
    lowered = reasons.get("lowered")
    lowered = [each for each in lowered if isinstance(each, dict)] if isinstance(lowered, list) else []
    if lowered:
        content += "<h3>Plans that were lowered</h3>" + table(
            ["plan", "seconds", "bytes", "lost by"],
            [
                [each.get("plan", ""), seconds(each["seconds"]) if number(each.get("seconds")) else "–",
                 size(each["bytes"]) if number(each.get("bytes")) else "–", each.get("lost_by") or "taken"]
                for each in lowered
            ],
        )  # fmt: skip
    notes = reasons.get("notes")
    notes = [str(words) for words in notes] if isinstance(notes, list) else []
    items = "".join(f"<li>{text(words)}</li>" for words in notes)
    return content + (f"<h3>Notes of the search, by its own estimates</h3><ul>{items}</ul>" if notes else "")


def write_comparison(units: list[dict], one: dict | None) -> str:
    if one is None:
        return note("No second plan was given: --against names one.")
    content = f"<h3>This plan</h3><p>{text(one['sentence'])}</p>" + strip(
        units, "modules of this plan", set(one["differs"])
    )
    content += f"<h3>{text(one['other_path'])}</h3><p>{text(one['other_sentence'])}</p>"
    other = one["other_units"]
    content += strip(other, "modules of the other plan").replace("data-unit=", "data-other-unit=")
    head = ["of", "this", "other", "difference"]
    if one["causes"]:
        content += "<h3>Time by cause</h3>" + table(head, one["causes"])
    else:
        content += note("Times by cause are not known of both: one has no timetable.json.")
    if one["kinds"]:
        content += "<h3>Bytes by kind, of the fullest rank</h3>" + table(head, one["kinds"])
    if one["ranks"]:
        content += "<h3>Bytes by rank</h3>" + table(["ranks", "this", "other", "difference"], one["ranks"])
    head = ["module", "this", "other", "time, this", "time, other", "bytes, this", "bytes, other"]
    return content + details("Per module", table(head, one["modules"], 3))
