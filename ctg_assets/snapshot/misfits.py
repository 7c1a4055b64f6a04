"""Where a study does not fit the field tree: what belongs there, and what is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import pyarrow as pa

from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.json_text import FOUND, IN_ITEMS, Path, excerpt, spelled


def _exact(text: str) -> Decimal:
    """A number as spelled; one whose exponent is beyond all bounds is none."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("nan")


# As spelled: a float holds whole numbers up to 2^53 only.
EXACT_JSON = msgspec.json.Decoder(float_hook=_exact)
_SPELL = msgspec.json.Encoder(decimal_format="number")

_LEAST, _MOST = -(2**63), 2**63 - 1
_MOST_DIGITS = 18  # after the first


def whole_number(value: Any) -> int | None:
    """The 64-bit integer that a decoded value is, if it is one."""
    if isinstance(value, Decimal) and (value.is_zero() or value.adjusted() <= _MOST_DIGITS):
        value = int(value) if value == value.to_integral_value() else None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and _LEAST <= value <= _MOST else None


def misfit_of(line: bytes) -> str | None:
    """In which field a sound study does not fit the field tree, what belongs there, what is there."""
    study = EXACT_JSON.decode(line)
    for path, expected, found in _misfits(study, pa.struct(list(study_arrow_schema())), ()):
        return f"{spelled(path)}: expected {expected}{FOUND}{excerpt(_SPELL.encode(found))}"
    return None


def _misfits(value: Any, kind: pa.DataType, path: Path) -> Iterator[tuple[Path, str, Any]]:
    if value is None:
        return
    if pa.types.is_list(kind):
        if isinstance(value, list):
            for item in value:
                yield from _misfits(item, kind.value_type, (*path, IN_ITEMS))
        else:
            yield path, "a list", value
    elif pa.types.is_struct(kind):
        if isinstance(value, dict):
            for each in kind:
                yield from _misfits(value.get(each.name), each.type, (*path, each.name))
        else:
            yield path, "an object", value
    elif not _FITS[kind](value):
        yield path, _EXPECTED[kind], value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return Decimal(value).is_finite() and abs(Decimal(value)) <= Decimal(sys.float_info.max)


_FITS: Mapping[pa.DataType, Callable[[Any], bool]] = {
    pa.string(): lambda value: isinstance(value, str),
    pa.bool_(): lambda value: isinstance(value, bool),
    pa.int64(): lambda value: whole_number(value) is not None,
    pa.float64(): _is_number,
}
_EXPECTED = {
    pa.string(): "text",
    pa.bool_(): "true or false",
    pa.int64(): f"a whole number from {_LEAST} to {_MOST}",
    pa.float64(): "a number of double precision",
}
