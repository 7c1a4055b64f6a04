"""Pieces of HTML that both pages are made of; every text that comes in is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from ctg_assets.printable import printable
from ctg_assets.report.labels import label


def element(name: str, content: str = "", **attributes: str) -> str:
    """An element around HTML; `class_` is the attribute `class`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>"


def text(value: object) -> str:
    """A text on one line, so that nothing in it is markup and nothing invisible."""
    return escape(printable(value))


def folded(summary: str, content: str) -> str:
    """HTML that opens when it is asked for."""
    return element("details", element("summary", text(summary)) + content)


def sql_block(statement: str) -> str:
    """SQL of ours, line by line."""
    return element("pre", element("code", escape(statement)), tabindex="0")


def table(
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    caption: str,
    *,
    stacks: bool = False,
) -> str:
    """A table of these columns under their headings; numbers stand to the right.

    One that `stacks` has its cells below each other on a narrow screen, each with its heading.
    """
    sides = {name: _side([row[name] for row in rows]) for name in columns}
    head = "".join(
        element("th", text(heading), scope="col", **sides[name])
        for name, heading in columns.items()
    )
    body = "".join(
        element(
            "tr",
            "".join(
                element("td", text(label(name, row[name])), data_heading=heading, **sides[name])
                for name, heading in columns.items()
            ),
        )
        for row in rows
    )
    inner = (
        element("caption", text(caption), class_="unseen")
        + element("thead", element("tr", head))
        + element("tbody", body)
    )
    return element(
        "div",
        element("table", inner, **({"class_": "stacks"} if stacks else {})),
        class_="scrolls",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def _side(values: Sequence[Any]) -> dict[str, str]:
    """The attributes of a column's cells, by what it holds."""
    if any(isinstance(value, int | Decimal) for value in values):
        return {"class_": "number"}
    return {"class_": "date"} if any(isinstance(value, date) for value in values) else {}


def definitions(items: Iterable[tuple[str, str]], **attributes: str) -> str:
    """Names and what they are."""
    pairs = (
        element("div", element("dt", text(name)) + element("dd", text(value)))
        for name, value in items
    )
    return element("dl", "".join(pairs), **attributes)


def whole_page(title: str, body: str) -> str:
    """A page that asks nothing of anybody: its policy lets it load nothing, its style is within."""
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_style()}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


@cache
def _style() -> str:
    return files(__package__).joinpath("style.css").read_text(encoding="utf-8")
