"""Cutting JSON that no decoder takes whole: the items of a list by their brackets."""

from __future__ import annotations

import re

import msgspec

STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
"""A string of JSON, as a pattern."""

BRACKET = re.compile(STRING + rb"|[{}\[\]]", re.DOTALL)
"""A bracket, or a string, in which there may be some."""

OPEN, CLOSE = (b"{", b"["), (b"}", b"]")
"""The brackets, each kind at the same place."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_CUT = msgspec.json.Decoder(dict[str, int])


def cut_list(text: bytes, name: str) -> tuple[bytes, list[bytes]] | None:
    """The items of the list `name` of a JSON object, and the object without it.

    Items that are objects are cut out by their brackets, and may be what no decoder takes; None if
    brackets do not match, if what is around the items is no JSON, or if there is no such list.
    """
    objects: list[bytes] = []
    around: list[bytes] = []
    position = 0
    brackets: list[bytes] = []
    for match in BRACKET.finditer(text):
        token = match.group()
        if token in OPEN:
            brackets.append(token)
            if brackets == [b"{", b"[", b"{"]:
                around.append(text[position : match.start()])
                position = match.start()
        elif token in CLOSE:
            if not brackets or brackets.pop() != OPEN[CLOSE.index(token)]:
                return None
            if token == b"}" and brackets == [b"{", b"["]:
                around.append(b'{"cut":%d}' % len(objects))
                objects.append(text[position : match.end()])
                position = match.end()
    if brackets:
        return None
    try:
        members = _MEMBERS.decode(b"".join([*around, text[position:]]))
        found = _ITEMS.decode(members.pop(name)) if name in members else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if found is None:
        return None
    items = [bytes(item) for item in found]
    whole = [objects[_CUT.decode(item)["cut"]] if item[:1] == b"{" else item for item in items]
    return msgspec.json.encode(members), whole
