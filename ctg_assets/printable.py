"""Text from elsewhere, made safe to look at.

Registries, files, databases and servers send text that we did not write. In a terminal an escape
sequence in it can hide, rewrite and link; a mark of direction makes text read as it is not. Such
characters are shown as escapes, as Python writes them, here and nowhere else.
"""

from __future__ import annotations

import re
from itertools import chain

# Control characters, marks of direction, line separators, halves of surrogate pairs, and characters
# that are invisible by design.
_NEVER_SHOWN = tuple(
    chain(
        range(0x20),
        range(0x7F, 0xA0),
        (0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF),
        range(0x2028, 0x202F),
        range(0x2060, 0x2070),
        range(0xD800, 0xE000),
        range(0xFFF9, 0xFFFC),
        range(0xE0000, 0xE0080),
    )
)


def _escape(code: int) -> str:
    return ascii(chr(code))[1:-1]


_ONE_LINE = {code: _escape(code) for code in _NEVER_SHOWN}
_LINES = {code: escape for code, escape in _ONE_LINE.items() if code != ord("\n")}

# What Markdown and HTML give a meaning.
_MARKDOWN = {ord(mark): f"\\{mark}" for mark in "\\`*[]<>|~&#!$"}
# Within a word, as in nct_id, underscores mean nothing there.
_UNDERSCORES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")


def printable(text: object) -> str:
    """A text, or anything's, on one line: whatever a terminal would act on is shown as its escape."""
    return str(text).translate(_ONE_LINE)


def printable_lines(text: str) -> str:
    """A text whose own line breaks stay; whatever else a terminal would act on is shown as its escape."""
    return text.translate(_LINES)


def markdown_text(text: object) -> str:
    """Markdown that shows a text as it is, on one line, whatever marks, links and HTML it holds."""
    escaped = printable(text).translate(_MARKDOWN)
    return _UNDERSCORES.sub(lambda found: "\\_" * len(found[0]), escaped)
