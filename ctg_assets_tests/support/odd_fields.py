"""Something odd in every field of the model, one field a study.

The space: each leaf of the field tree with the values of its kind in `oddities.py`, and with texts, numbers,
dates and ages drawn at random; each object with fields of other names, and each object and list with what
is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pyarrow as pa

from ctg_assets.model.fields import FieldNode, enum_values, field_tree, study_arrow_schema
from ctg_assets_tests.support import oddities
from ctg_assets_tests.support.oddities import ID, Odd, Path

# What a field of this type usually has; enumerations have their first value, all others a text.
_USUAL: dict[str, Any] = {
    "boolean": True,
    "integer": 7,
    "long": 7,
    "number": 1.5,
    "GeoPoint": {"lat": 1.5, "lon": 2.5},
    "NormalizedDate": "2024-02-29",
    "PartialDate": "2024-02",
    "NormalizedTime": "18 Months",
    "DateTimeMinutes": "2024-02-29T10:30",
}


def full_study(number: int, revision: int = 0) -> dict[str, Any]:
    """A study of this number in which every field of the model is there, with usual values."""
    study = {node.name: _value(node, revision) for node in field_tree()}
    study["protocolSection"]["identificationModule"]["nctId"] = f"NCT{number:08}"
    return study


def _value(node: FieldNode, revision: int) -> Any:
    value: Any
    if node.children:
        value = {child.name: _value(child, revision) for child in node.children}
    elif node.is_enum:
        value = enum_values()[node.base_type][0].value
    else:
        value = _USUAL.get(node.base_type, f"{node.name} {revision}")
    return [value] if node.is_list else value


def odd_fields(random: Random, per_field: int) -> list[Odd]:
    """Studies with something odd in one field each; `per_field` of the odd values of each field.

    Drawn at random, half of them of those that have to be loaded; a large number takes all of them.
    Numbers of studies begin at 1, so that as many again with another seed are later contents of the same.
    """
    found: list[Odd] = []
    for place, choices in _places():
        sound, refused = choices(random)
        to_be_loaded = (per_field + random.randint(0, 1)) // 2
        chosen = [(raw, True) for raw in _some(sound, to_be_loaded, random)]
        chosen += [(raw, False) for raw in _some(refused, per_field - to_be_loaded, random)]
        for raw, is_sound in chosen:
            found.append(_odd(len(found) + 1, place, raw, is_sound))
    return found


def _some(values: list[bytes], number: int, random: Random) -> list[bytes]:
    return random.sample(values, min(number, len(values)))


_Choices = Callable[[Random], tuple[list[bytes], list[bytes]]]


def _places() -> Iterator[tuple[Path, _Choices]]:
    """Every place of the model with what may stand there: what is to be loaded, and what is not."""
    for place, kind in _below((), pa.struct(list(study_arrow_schema()))):
        if place == ID:
            continue
        if pa.types.is_nested(kind):
            if place != ID[: len(place)]:
                yield place, _in_place_of_list if pa.types.is_list(kind) else _in_place_of_object
            if pa.types.is_struct(kind):
                yield (*place, oddities.MARK), _novelties
        else:
            yield place, _LEAVES[kind]


def _below(place: Path, kind: pa.DataType) -> Iterator[tuple[Path, pa.DataType]]:
    yield place, kind
    if pa.types.is_list(kind):
        yield from _below((*place, 0), kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _below((*place, field.name), field.type)


def _texts(random: Random) -> tuple[list[bytes], list[bytes]]:
    sound = [*oddities.SOUND_TEXTS, _text(random), _date(random), _age(random), _figure(random)]
    return sound, [*oddities.WRONG_FOR_TEXT, *oddities.UNSOUND, *oddities.DEEP]


def _whole_numbers(random: Random) -> tuple[list[bytes], list[bytes]]:
    drawn = str(random.randint(-(2**63), 2**63 - 1)).encode()
    too_large = str(random.choice([-1, 1]) * random.randint(2**64, 10**40)).encode()
    wrong = [*oddities.WRONG_FOR_WHOLE, too_large, _text(random)]
    return [*oddities.WHOLE_NUMBERS, drawn], [*wrong, *oddities.UNSOUND, *oddities.DEEP]


def _numbers(random: Random) -> tuple[list[bytes], list[bytes]]:
    drawn = repr(random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300)).encode()
    wrong = [*oddities.WRONG_FOR_NUMBER, _text(random)]
    return [*oddities.NUMBERS, drawn], [*wrong, *oddities.UNSOUND, *oddities.DEEP]


def _booleans(random: Random) -> tuple[list[bytes], list[bytes]]:
    wrong = [*oddities.WRONG_FOR_BOOLEAN, _text(random)]
    return [b"true", b"false", b"null"], [*wrong, *oddities.UNSOUND, *oddities.DEEP]


_LEAVES: dict[pa.DataType, _Choices] = {
    pa.string(): _texts,
    pa.int64(): _whole_numbers,
    pa.float64(): _numbers,
    pa.bool_(): _booleans,
}


def _in_place_of_object(random: Random) -> tuple[list[bytes], list[bytes]]:
    return [b"null", b"{}"], [b"[]", b'"text"', b"7", b"true", _text(random)]


def _in_place_of_list(random: Random) -> tuple[list[bytes], list[bytes]]:
    return [b"null", b"[]"], [b"{}", b'"text"', b"7", b"true", _text(random)]


def _novelties(random: Random) -> tuple[list[bytes], list[bytes]]:
    keys = [*oddities.NOVEL_KEYS, _text(random)]
    sound = [random.choice(keys) + b":" + value for value in oddities.NOVEL_VALUES]
    return sound, [key + b":1" for key in oddities.UNSOUND_KEYS]


def _text(random: Random) -> bytes:
    """Any characters of Unicode, as they are or escaped."""
    planes = [(0, 0x7F), (0x80, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    text = "".join(
        chr(random.randint(*random.choice(planes))) for _ in range(random.randint(1, 30))
    )
    return json.dumps(text, ensure_ascii=random.random() < 0.5).encode()


def _date(random: Random) -> bytes:
    """Year, month and day, of which some do not exist."""
    parts = (
        random.choice([0, 1, 1582, 1900, 2024, random.randint(0, 99999)]),
        random.randint(0, 13),
        random.randint(0, 32),
    )
    return json.dumps("-".join(f"{part:02}" for part in parts[: random.randint(1, 3)])).encode()


def _age(random: Random) -> bytes:
    """A number and a unit of time, or nearly so."""
    number = random.choice(["0", "-1", "1.5", "1,000", "١٨", str(random.randint(0, 10**30))])
    unit = random.choice(["Year", "Years", "months", "Weeks", "Day", "Hours", "Minutes", "Moons"])
    return json.dumps(f"{number} {unit}").encode()


def _figure(random: Random) -> bytes:
    """What people write where a number is meant."""
    digits = str(random.randint(0, 10**20))
    return json.dumps(
        random.choice([f"{digits},{digits}", f"<{digits}", f"{digits}e{digits}", f"{digits}%"])
    ).encode()


def _odd(number: int, place: Path, raw: bytes, is_sound: bool) -> Odd:
    is_member = place[-1] == oddities.MARK
    named = place[:-1] if is_member else place
    field = None if is_sound else oddities.named_field(named, raw)
    return oddities.made(full_study(number), place, raw, field, as_member=is_member)
