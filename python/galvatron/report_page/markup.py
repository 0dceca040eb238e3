"""Text, tables and drawings as HTML: whatever comes from files is escaped here, once."""

from __future__ import annotations

import html


def text(value) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode(), quote=True)


def tag(name: str, content: str = "", **attributes) -> str:
    """`data_unit="a"` becomes data-unit, `class_` class; None leaves an attribute out."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{words}>{content}</{name}>"


def table(head: list[str], rows: list[list], words: int = 1, caption: str = "") -> str:
    """The first `words` columns are text, the others numbers."""

    def cells(kind: str, row: list) -> str:
        parts = []
        for column, cell in enumerate(row):
            name = ' class="words"' if column < words else ""
            scope = ' scope="col"' if kind == "th" else ""
            parts.append(f"<{kind}{name}{scope}>{text(cell)}</{kind}>")
        return "".join(parts)

    title = f"<caption>{text(caption)}</caption>" if caption else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    whole = f"<table>{title}<thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{text(caption or "table by " + head[0])}">{whole}</div>'


def details(summary: str, content: str) -> str:
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def note(words: str) -> str:
    return f'<p class="note">{text(words)}</p>'


def section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{text(title)}</h2>{content}</section>\n'


def drawing(label: str, width: float, height: float, content: str, **attributes) -> str:
    """An SVG whose items are reached by Tab, then arrows; it scrolls within itself where the page is narrow."""
    svg = tag(
        "svg", content, role="group", aria_label=label, width=f"{width:g}", height=f"{height:g}",
        viewBox=f"0 0 {width:g} {height:g}", data_drawing="", **attributes,
    )  # fmt: skip
    return f'<div class="scroll">{svg}</div>'


def item(x: float, y: float, width: float, height: float, label: str, first: bool, class_: str, **attributes) -> str:
    """A rectangle of a drawing that the keyboard reaches and #tooltip tells of."""
    return (
        f'<rect class="item {class_}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" role="img" '
        f'aria-label="{text(label)}" tabindex="{0 if first else -1}"'
        + "".join(f' {key.replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
        + "/>"
    )


def label(x: float, y: float, words: str, class_: str = "", anchor: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"'
        + (f' class="{class_}"' if class_ else "")
        + (f' text-anchor="{anchor}"' if anchor else "")
        + f">{text(words)}</text>"
    )


def key(entries: list[tuple[str, str, str]]) -> str:
    """(class, mark, meaning) of each colour."""
    items = "".join(
        f'<li><span class="swatch {c}">{text(mark)}</span>{text(meaning)}</li>' for c, mark, meaning in entries
    )
    return f'<ul class="key">{items}</ul>'


def size(amount: float) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(amount) >= factor:
            return f"{amount / factor:.1f} {unit}"
    return f"{amount:.0f} B"


def seconds(length: float) -> str:
    if abs(length) >= 1:
        return f"{length:.3g} s"
    return f"{length * 1e3:.3f} ms"
