"""What must hold of every page that we write."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Elements that have no end.
_EMPTY = {"meta"}


class _Checker(HTMLParser):
    """Follows the elements of a page and fails at the first that is not closed, or that could act."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.plots: list[dict[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self._id: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in {"script", "link", "iframe", "img", "object", "b"}, tag
        assert not [name for name in given if name.startswith("on") or name == "src"], given
        if "id" in given:
            self.ids.append(given["id"] or "")
        self._id = given.get("id")
        if tag == "a":
            assert (given["href"] or "").startswith("#")
            self.referred.append((given["href"] or "")[1:])
        for name in ("aria-labelledby",):
            self.referred += (given.get(name) or "").split()
        if tag == "svg":
            self.plots.append(given)
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._id is not None and data.strip():
            self.texts[self._id] = self.texts.get(self._id, "") + data


def check_page(page: str) -> list[str]:
    """Check that a page is well-formed, self-contained and accessible; returns the descriptions of its plots.

    Every element is closed, every id is there once, every reference leads somewhere, no address outside is
    named, nothing can act, and every plot has a title and a text for those who do not see it.
    """
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.referred) <= set(checker.ids)
    # Neither an address nor a namespace: an SVG within a page needs none.
    assert re.findall(r"[a-z]+://[^\s\"<]*", page) == []
    described = []
    for plot in checker.plots:
        title, description = (plot["aria-labelledby"] or "").split()
        assert plot["role"] == "img"
        assert checker.texts[title].strip()
        described.append(checker.texts[description])
    return described
