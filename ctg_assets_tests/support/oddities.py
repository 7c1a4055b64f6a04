"""Real studies with one odd thing in each, and what is to become of them.

The places are all leaves, all objects (for fields that the model does not know) and all objects and
lists that hold others, but for what holds the NCT id. The odd things are the lists below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa

from ctg_assets.model.fields import study_arrow_schema

Path = tuple[str | int, ...]

ID = ("protocolSection", "identificationModule", "nctId")
MARK = "@odd@"
_MARKED = f'"{MARK}"'.encode()

# Nobody decodes these, whatever the field.
UNSOUND = (
    rb'"Walk \ud83d"',
    rb'"\udc00 walk"',
    rb'"\ud83d\u0041"',
    b'"\xff"',
    b'"caf\xe9"',
    b'"\xed\xa0\xbd"',
    b'"a\x01b"',
    rb'"\x41"',
    rb'"\u12"',
    b"1E400",
    b"-1e999",
    b"9" * 5000,
    b"NaN",
    b"-Infinity",
    b"01",
    b"tru",
    b"-",
)
DEEP = (
    b"[" * 100 + b"]" * 100,
    b"[" * 20_000 + b"1" + b"]" * 20_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
)
SOUND_TEXTS = (
    rb'"\u0000"',
    rb'"a\u0000b\u0000"',
    b'""',
    b'" "',
    rb'"\u001b[31m\u0007\u202e"',
    rb'"\u2028\u2029\uffff\ufffe"',
    b'"\xf0\x9f\x98\x80"',
    rb'"\ud83d\ude00"',
    b'"' + b"long " * 4000 + b'"',
    b'"9999-99-99"',
    b'"0000-00-00"',
    b'"10000-01-01"',
    b'"NaN"',
    b'"1e999"',
    b'"' + b"9" * 400 + b'"',
    b'"\\/\\"\\\\"',
    b"null",
)
WRONG_FOR_TEXT = (b"1", b"1.5", b"true", b"[]", b"{}", b'["a"]', b'{"a":1}')
WHOLE_NUMBERS = (b"12.0", b"1e3", b"1.2e1", b"-0.0", b"0", b"9223372036854775807", b"0e5", b"null")
WRONG_FOR_WHOLE = (
    *(b"12.5", b"1e-3", b"9223372036854775808", b"-9223372036854775809", b"1e30"),
    *(b'"12"', b"true", b"[]", b"{}", b"9" * 400),
)
NUMBERS = (b"1", b"1e-400", b"1e308", b"-0.0", b"12345678901234567890", b"null")
WRONG_FOR_NUMBER = (b'"1.5"', b"true", b"[]", b"{}", b"9" * 400)
WRONG_FOR_BOOLEAN = (b'"true"', b"1", b"0", b"[]", b"{}", b'""')
NOVEL_KEYS = (
    b'"novel"',
    b'""',
    rb'"\u0000"',
    b'"a.b[]"',
    b'"\xc3\xbc"',
    b'"' + b"k" * 3000 + b'"',
    b'"nctId "',
)
NOVEL_VALUES = (
    *(b"1", b"9" * 30, b"1e300", b"1e-999", b"9" * 400, b"[]", b"{}", b"null", b'{"":{"":[]}}'),
    *(rb'"\u0000"', rb'{"\u0000":1}', b"[1,[2],{}]", b'{"a":1,"a":2}', b"[" * 40 + b"]" * 40),
)
UNSOUND_KEYS = (rb'"\ud83d"', b'"\xff"', b'"\x02"', rb'"\q"')


@dataclass(frozen=True)
class Odd:
    """A study with something odd in it.

    `field` is the path, in the registry's spelling, that the reason has to name if the study cannot be
    taken; None if it is to be loaded. `what` describes it to people.
    """

    nct_id: str
    study: bytes
    field: str | None
    what: str


def odd_study(original: dict[str, Any], random: Random) -> Odd:
    """The study with one odd thing at a random place."""
    draw = random.random()
    if draw < 0.7:
        place, raw, is_sound = _leaf(original, random)
    elif draw < 0.8:
        return _with_novelty(original, random)
    elif draw < 0.9:
        return _with_repetition(original, random)
    else:
        place = random.choice([path for path, _ in _holders(original)])
        kind = _type_at(place)
        wrong = (b'"text"', b"7", b"true", b"{}" if pa.types.is_list(kind) else b"[]")
        raw, is_sound = random.choice([*((one, False) for one in wrong), (b"null", True)])
    return made(original, place, raw, None if is_sound else named_field(place, raw))


def _leaf(original: dict[str, Any], random: Random) -> tuple[Path, bytes, bool]:
    by_kind: dict[pa.DataType, list[Path]] = {}
    for path, value in _walk(original):
        if not isinstance(value, dict | list) and path != ID:
            by_kind.setdefault(_type_at(path), []).append(path)
    by_kind.pop(None, None)
    # Numbers are few: each kind of field gets its turn.
    kind = random.choice(list(by_kind))
    sound, wrong = {
        pa.string(): (SOUND_TEXTS, WRONG_FOR_TEXT),
        pa.int64(): (WHOLE_NUMBERS, WRONG_FOR_WHOLE),
        pa.float64(): (NUMBERS, WRONG_FOR_NUMBER),
        pa.bool_(): ((b"true", b"null"), WRONG_FOR_BOOLEAN),
    }[kind]
    chosen = random.choice([sound, sound, wrong, UNSOUND, DEEP])
    return random.choice(by_kind[kind]), random.choice(chosen), chosen is sound


def _with_novelty(original: dict[str, Any], random: Random) -> Odd:
    holders = [
        path for path, value in _walk(original) if isinstance(value, dict) and _type_at(path)
    ]
    place = random.choice(holders)
    if random.random() < 0.3:
        raw = random.choice(UNSOUND_KEYS) + b":1"
        return made(original, (*place, MARK), raw, spelled(place), as_member=True)
    if random.random() < 0.3:
        raw = b'"novel":' + random.choice(UNSOUND)
        return made(original, (*place, MARK), raw, spelled((*place, "novel")), as_member=True)
    raw = random.choice(NOVEL_KEYS) + b":" + random.choice(NOVEL_VALUES)
    return made(original, (*place, MARK), raw, None, as_member=True)


def _with_repetition(original: dict[str, Any], random: Random) -> Odd:
    """A field of the model twice in one object."""
    texts = [
        (path, value)
        for path, value in _walk(original)
        if isinstance(value, str) and isinstance(path[-1], str) and _type_at(path) == pa.string()
    ]
    place, value = random.choice(texts)
    raw = (
        json.dumps(place[-1]).encode()
        + b":"
        + json.dumps(value + random.choice(["", "!"])).encode()
    )
    return made(original, (*place[:-1], MARK), raw, spelled(place), as_member=True)


def named_field(place: Path, raw: bytes) -> str:
    """The field that the reason has to name where this stands at a place and cannot be taken."""
    if raw in DEEP:
        deeper: Path = (*place, *((0,) if raw[:1] == b"[" else ("a",)) * 100)
        return spelled(deeper[:8])
    return spelled(place)


def made(
    original: dict[str, Any], place: Path, raw: bytes, field: str | None, *, as_member: bool = False
) -> Odd:
    """The study with these bytes at a place, or, as a member, as one more field of the object there."""
    changed = json.loads(json.dumps(original))
    holder = changed
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = MARK
    study = json.dumps(changed).encode()
    study = study.replace(_MARKED + b": " + _MARKED if as_member else _MARKED, raw)
    nct_id = original["protocolSection"]["identificationModule"]["nctId"]
    return Odd(nct_id, study, field, f"{spelled(place)} is {raw[:50]!r}")


def spelled(path: Path) -> str:
    """A path in the registry's spelling."""
    steps = ("[]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict | list):
        for step, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(below, (*path, step))


def _holders(original: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    for path, value in _walk(original):
        if isinstance(value, dict | list) and path != ID[: len(path)] and _type_at(path):
            yield path, value


def _type_at(path: Path) -> pa.DataType | None:
    """The model's type of what lies at a path; None outside the model."""
    kind: pa.DataType = pa.struct(list(study_arrow_schema()))
    for step in path:
        if isinstance(step, int):
            kind = kind.value_type
        elif pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            kind = kind.field(step).type
        else:
            return None
    return kind
