"""JSON text that no decoder takes whole: its parts by their places, and what is wrong with them.

A decoder says of a page of a thousand studies only that byte 7,345,112 is wrong. Here quotes, brackets,
colons and commas are enough, so what is wrong in one value spoils no other. It is pure Python and reads
some 10 MB/s: only for text that was refused.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ctg_assets.cut_json import BRACKET, CLOSE, OPEN, STRING

DEEPEST_NESTING = 64
"""Objects and lists within each other that we take. Studies have fifteen; how many a decoder can take
depends on how deep in calls it is asked."""

_TOKEN = re.compile(STRING + rb'|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")

_MOST_SHOWN = 60
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,80}")
_OFFSET = re.compile(r" ?\(byte (\d+)\)")
_STUDY = "the study"
_PATH_SHOWN = 8


FOUND = "; found "
"""What stands in a reason between what was expected and the beginning of what was found."""

IN_ITEMS = None
"""The step of a path from a list into its items."""

Path = tuple[str | None, ...]
"""Where a value lies: keys, and `IN_ITEMS` after the key of a list."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text, number or word: where it lies, its bytes, and between which places of the text.

    `is_key` says that it is no value but the name of a member; `path` is that of the member then.
    """

    path: Path
    raw: bytes
    start: int
    end: int
    is_key: bool = False


@dataclass(slots=True)
class _Level:
    """An open bracket: is it an object's, the step in it, and is a key to come."""

    is_object: bool
    step: str | None
    at_key: bool


_Levels = list[_Level]


def leaves(text: bytes) -> Iterator[Leaf]:
    """All leaves and keys, in order; of text that is no JSON those that can be told."""
    for match, levels in _tokens(text):
        token = match.group()
        if token not in OPEN:
            is_key = bool(levels) and levels[-1].at_key and token[:1] == b'"'
            yield Leaf(_path(levels), token, match.start(), match.end(), is_key)


def _tokens(text: bytes) -> Iterator[tuple[re.Match[bytes], _Levels]]:
    """Opening brackets, keys and leaves, with what they lie in (which changes from one to the next)."""
    levels: _Levels = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in OPEN:
            yield match, levels
            is_object = token == b"{"
            levels.append(_Level(is_object, "" if is_object else IN_ITEMS, is_object))
        elif token in CLOSE:
            del levels[-1:]
        elif token in (b",", b":"):
            if levels:
                levels[-1].at_key = levels[-1].is_object and token == b","
        else:
            if levels and levels[-1].at_key and token[:1] == b'"':
                levels[-1].step = _lenient_text(token)
            yield match, levels


def _path(levels: _Levels) -> Path:
    # Nobody asks what lies further down, and a path of each of a million leaves there would never end.
    return tuple(level.step for level in levels[: DEEPEST_NESTING + 1])


def _lenient_text(token: bytes) -> str:
    """A JSON string as text that can be encoded, whatever is wrong with it."""
    try:
        return msgspec.json.decode(token, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return token[1:-1].decode("utf-8", errors="replace")


def text_at(text: bytes, path: Path) -> str | None:
    """The string at a path, the last one if there are several; None if there is none that is sound."""
    found = None
    for match in _values_at(text, path):
        try:
            found = msgspec.json.decode(match.group(), type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def without_leaf(text: bytes, path: Path) -> bytes:
    """The text less the bytes of the leaves at a path."""
    kept, position = [], 0
    for match in _values_at(text, path):
        kept.append(text[position : match.start()])
        position = match.end()
    return b"".join([*kept, text[position:]])


def _values_at(text: bytes, path: Path) -> Iterator[re.Match[bytes]]:
    """The leaves at a path, without the keys there; the paths of all others are not even put together."""
    for match, levels in _tokens(text):
        if len(levels) == len(path) and match.group() not in OPEN:
            is_key = bool(levels) and levels[-1].at_key and match.group()[:1] == b'"'
            if not is_key and _path(levels) == path:
                yield match


def is_nested_too_deeply(text: bytes) -> bool:
    """Whether more than DEEPEST_NESTING objects and lists lie within each other."""
    # Each round takes away the innermost pairs: a hundredth of the time of looking at all of the text.
    brackets = text.translate(None, _NOT_BRACKETS)
    for _ in range(DEEPEST_NESTING):
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    # What is left stands in strings, or is too deep, or does not match.
    return bool(brackets) and _deepest(text) > DEEPEST_NESTING


def _deepest(text: bytes) -> int:
    depth = deepest = 0
    for match in BRACKET.finditer(text):
        token = match.group()
        if token in OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif token in CLOSE:
            depth -= 1
    return deepest


def spelled(path: Path) -> str:
    """A path in the registry's spelling, `[]` after lists; odd keys as JSON in ASCII, cut short."""
    steps = ("[]" if step is IN_ITEMS else f".{_spelled_key(step)}" for step in path)
    return "".join(steps).removeprefix(".")


def _spelled_key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else excerpt(msgspec.json.encode(key))


def excerpt(raw: bytes) -> str:
    """The beginning of some JSON, printable on one line in ASCII."""
    shown = raw[:_MOST_SHOWN].decode("utf-8", errors="backslashreplace")
    shown = shown.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
    return shown[:_MOST_SHOWN] + ("…" if len(raw) > _MOST_SHOWN or len(shown) > _MOST_SHOWN else "")


def why_refused(text: bytes) -> str | None:
    """Why we do not take this for one JSON object: in which field, what was expected, what found.

    None if we do. What a field may hold is not looked at.
    """
    if is_nested_too_deeply(text):
        return _too_deep(text)
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return next(_odd_leaves(text), None) or _misplaced(text, str(error))
    if not isinstance(content, dict):
        return f"{_STUDY}: expected a JSON object{FOUND}{excerpt(text.strip())}"
    return None


def _too_deep(text: bytes) -> str:
    paths = (_path(levels) for _, levels in _tokens(text) if len(levels) >= DEEPEST_NESTING)
    at = spelled(next(paths)[:_PATH_SHOWN])
    return f"{at}: expected at most {DEEPEST_NESTING} levels of nesting{FOUND}more"


def _odd_leaves(text: bytes) -> Iterator[str]:
    for leaf in leaves(text):
        expected = _expected(leaf.raw)
        if expected is not None:
            what = "as a name " if leaf.is_key else ""
            at = spelled(leaf.path) or _STUDY
            yield f"{at}: expected {what}{expected}{FOUND}{excerpt(leaf.raw)}"


def _expected(raw: bytes) -> str | None:
    """What belongs in the place of a leaf that is not sound; None if it is."""
    try:
        msgspec.json.decode(raw)
    except UnicodeDecodeError:
        return "text in UTF-8"
    except msgspec.ValidationError:
        return f"a number that is not out of range (±{sys.float_info.max:.2g})"
    except msgspec.DecodeError:
        if raw[:1] != b'"':
            return "a JSON value"
    else:
        return None
    try:
        json.loads(raw, strict=False)
    except ValueError:
        return "text with escapes that JSON has"
    return "text without unpaired surrogates and raw control characters"


def _misplaced(text: bytes, error: str) -> str:
    """Of text whose leaves are all sound, where the decoder stopped."""
    stopped = _OFFSET.search(error)
    offset = int(stopped[1]) if stopped else len(text)
    before = [leaf.path for leaf in leaves(text) if leaf.start < offset]
    at = spelled(before[-1]) if before else ""
    after = f"after {at}" if at else _STUDY
    return f"{after}: expected JSON ({_OFFSET.sub('', error)}){FOUND}{excerpt(text[offset:])}"
