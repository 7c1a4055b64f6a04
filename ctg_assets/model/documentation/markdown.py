"""Texts as GitHub's Markdown shows them literally."""

from __future__ import annotations

import re


def literal(text: str) -> str:
    """Text in which nothing is taken for Markdown or HTML; spans of code are left as they are."""
    parts = re.split("(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def cell(text: str) -> str:
    """Such a text as a cell of a table; its lines stay lines."""
    return literal(text).replace("|", "\\|").replace("\n", "<br>")


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore between letters is no mark of emphasis.
    return re.sub(r"[*\[\]\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)
