"""Rows of WHO's JSON as rows of our tables: types, spellings, natural keys, and what cannot be used."""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import msgspec

from ctg_assets.model.spec import ColumnType
from ctg_assets.shipped import shipped_path
from ctg_assets.who.errors import WhoError
from ctg_assets.who.indicators import Indicator, TargetTable
from ctg_assets.who.tables import left_out_of, readings_of

_DIGEST_BYTES = 16

# Codes are shorter by far; Postgres' indexes take no texts of any length.
_LONGEST_KEY = 200

# What releases have called the same.
_SAME = {
    "sex": {"BTSX": "TOTAL", "MLE": "MALE", "FMLE": "FEMALE"},
    "age_group": {
        "ALLAGES": "TOTAL",
        "YEARSALL": "TOTAL",
        "YEARS85PLUS": "Y_GE85",
        "YGE_85": "Y_GE85",
    },
}
# Members carry their dimension as a prefix since 2023.
_PREFIXES = {"sex": "SEX_", "age_group": "AGEGROUP_"}

# As releases before, and some tables of today, spell titles.
_OTHER_TITLES = {
    "trypanosomiasis": 230,
    "food-bourne trematodes": 362,
    "respiratory infectious": 380,
    "kidney, renal pelvis and ureter cancer": 745,
}

# What a row may say where it has nothing to say.
_NOTHING = (None, "")


class UnusableRowError(WhoError):
    """A row of an answer is not one of the table's; the message is the reason."""


@dataclass(frozen=True)
class TypedRow:
    """A row's values in the order of the readings, with extras at the end; its key and all of it as digests.

    `updated_at` is no part of the digest: WHO dates rows anew whose values stay.
    """

    values: tuple[Any, ...]
    key: bytes
    digest: bytes
    updated_at: datetime | None


class RowReader:
    """Reads the rows of one indicator, and remembers which columns they had."""

    def __init__(self, indicator: Indicator) -> None:
        self._indicator = indicator
        self._readings = readings_of(indicator)
        self._known = {source for reading in self._readings for source in reading.sources}
        self._left_out = left_out_of(indicator)
        self._decoder = msgspec.json.Decoder(dict[str, Any])
        self.columns: set[str] = set()
        self.years: set[int] = set()

    @property
    def new_columns(self) -> set[str]:
        """The columns seen that we have no column for: they are kept as extras."""
        return {
            name
            for name in self.columns - self._known - self._left_out
            if not name.startswith("@odata.")
        }

    def read(self, raw: bytes) -> TypedRow:
        """One row; raises UnusableRowError."""
        try:
            sent = self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"it is no JSON object ({error})"
            raise UnusableRowError(message) from error
        self.columns.update(sent)
        values = [self._value(reading, sent) for reading in self._readings]
        by_name = {
            reading.column.name: value
            for reading, value in zip(self._readings, values, strict=True)
        }
        if self._indicator.target is TargetTable.ESTIMATES:
            self._normalise(by_name)
            values = list(by_name.values())
        for reading in self._readings:
            if reading.is_key and len(str(by_name[reading.column.name])) > _LONGEST_KEY:
                message = f"{reading.column.name} is longer than {_LONGEST_KEY} characters"
                raise UnusableRowError(message)
            if reading.needed and by_name[reading.column.name] is None:
                message = f"it has no {reading.column.name} ({' or '.join(reading.sources)})"
                raise UnusableRowError(message)
        year = by_name.get("year") or _year(by_name.get("time_value"))
        if year is not None:
            self.years.add(year)
        extras = {
            name: value
            for name, value in sorted(sent.items())
            if name not in self._known
            and name not in self._left_out
            and not name.startswith("@odata.")
        }
        kept = msgspec.json.encode(extras).decode() if extras else None
        key = [by_name[reading.column.name] for reading in self._readings if reading.is_key]
        told = [value for name, value in by_name.items() if name != "updated_at"]
        return TypedRow(
            (*values, kept),
            _digest([self._indicator.code, *key]),
            _digest([*told, kept]),
            by_name.get("updated_at"),
        )

    def _value(self, reading: Any, sent: dict[str, Any]) -> Any:
        value = None
        for source in reading.sources:
            value = sent.get(source)
            if value in _NOTHING:
                value = self._indicator.fill.get(source)
            if value not in _NOTHING:
                break
        if value in _NOTHING:
            return None
        try:
            return _CONVERSIONS[reading.column.type](value)
        except (ValueError, TypeError, OverflowError) as error:
            message = f"{reading.column.name} is {str(value)[:100]!r}"
            raise UnusableRowError(message) from error

    def _normalise(self, row: dict[str, Any]) -> None:
        """Bring an estimate to the spellings of today, and find the code of a cause that has a title only."""
        for name, same in _SAME.items():
            if row[name] is not None:
                plain = row[name].removeprefix(_PREFIXES[name])
                row[name] = same.get(plain.upper(), plain)
        if row["country_code"] is not None:
            row["country_code"] = row["country_code"].upper()
        if row["cause_code"] is None and row["cause_title"] is not None:
            row["cause_code"] = _causes().get(_plain(row["cause_title"]))
            if row["cause_code"] is None:
                message = f"it has no code of its cause, and no cause is called {row['cause_title'][:100]!r}"
                raise UnusableRowError(message)


def observation_key(key: bytes) -> str:
    """How a key is spelled in the tables."""
    return key.hex()


def _digest(values: list[Any]) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(values), digest_size=_DIGEST_BYTES).digest()


def _year(time_value: str | None) -> int | None:
    return int(time_value) if time_value and time_value.isascii() and time_value.isdigit() else None


def _text(value: Any) -> str:
    # Postgres has no NUL.
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.replace("\0", "\ufffd")


def _integer(value: Any) -> int:
    number = int(value) if isinstance(value, str | int) else value
    if isinstance(value, bool) or number != int(number) or abs(number) >= 2**31:
        raise ValueError
    return int(number)


def _double(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _date(value: Any) -> date:
    # The day that WHO means, not that of another time zone.
    return date.fromisoformat(value[:10])


def _timestamp(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


_CONVERSIONS = {
    ColumnType.TEXT: _text,
    ColumnType.INTEGER: _integer,
    ColumnType.DOUBLE: _double,
    ColumnType.DATE: _date,
    ColumnType.TIMESTAMP: _timestamp,
}


def _plain(title: str) -> str:
    return " ".join(title.split()).casefold()


@cache
def _causes() -> dict[str, int]:
    """The codes of WHO's causes by title, as the reviewed seed has them."""
    with (
        shipped_path("dbt_project")
        .joinpath("seeds", "ghe_causes.csv")
        .open(encoding="utf-8", newline="") as file
    ):
        reviewed = csv.DictReader(file)
        return _OTHER_TITLES | {
            _plain(row["cause_title"]): int(row["cause_code"]) for row in reviewed
        }
