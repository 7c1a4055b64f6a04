"""Releases: what WHO had of an indicator at one time, typed and without what cannot be used; each is kept.

A release is known by its content. Its folder has the rows (`rows.parquet`), the rows that were set aside
(`set_aside.parquet`), and last of all `release.json`, without which there is no release.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.results import CheckResult
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer
from ctg_assets.who.indicators import Indicator, TargetTable
from ctg_assets.who.rows import RowReader, TypedRow, UnusableRowError, observation_key
from ctg_assets.who.tables import TABLES
from ctg_assets.who.walks import WalkEnd, WalkStore

_RELEASE_NAME = re.compile(r"[0-9]{5,}")
_COMPRESSION_LEVEL = 3
_DIGEST_BITS = 128
_MOST_REASONS = 5

_SET_ASIDE_SCHEMA = pa.schema(
    [pa.field("row", pa.large_binary(), nullable=False), pa.field("reason", pa.string())]
)


CHECKS = {
    "has_rows": ("Rows came: an old code finds none, with status 200.", True),
    "rows_are_usable": ("No more rows are unusable than CTG_MAX_QUARANTINE_FRACTION allows.", True),
    "no_row_is_set_aside": ("Each row can be used, and no two have one key.", False),
    "no_column_is_missing": ("All columns are there that the release before had.", True),
    "no_column_is_new": ("No column came that we do not know.", False),
}
"""The checks of what was fetched: what each looks for, and whether it holds a release back."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release of an indicator: its number in the order in which releases were found, name, and content.

    `columns` are those that its answer had. All times are UTC; `updated_at` is when WHO last changed a row,
    if rows say so.
    """

    code: str
    number: int
    name: str
    content_hash: str
    target: TargetTable
    walk: int
    rows: int
    set_aside: int
    columns: list[str]
    source: str
    licence: str
    fetched_at: datetime
    updated_at: datetime | None


class KeptCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How a check ended."""

    name: str
    passed: bool
    blocking: bool
    description: str


class IndicatorState(msgspec.Struct, frozen=True, kw_only=True):
    """What the last look at an indicator's data found: `release` is the number of the newest, if there is one.

    `is_held_back` says that what was fetched did not become a release, for a check says why.
    """

    checked_at: datetime
    walk: int
    release: int | None
    is_held_back: bool
    checks: list[KeptCheck]

    def results(self) -> dict[str, CheckResult]:
        """The checks by name."""
        return {
            check.name: CheckResult(check.passed, check.description, blocking=check.blocking)
            for check in self.checks
        }


class ReleaseStore:
    """The releases of all indicators of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep releases in `storage`."""
        self._storage = storage
        self._walks = WalkStore(storage)

    def releases(self, code: str) -> list[Release]:
        """All releases of an indicator, in the order of their numbers."""
        found = []
        for name in self._storage.names(_folder(code)):
            if _RELEASE_NAME.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    path = f"{_folder(code)}/{name}/release.json"
                    found.append(read_record(self._storage, path, Release))
        return found

    def state(self, code: str) -> IndicatorState | None:
        """What the last look at an indicator's data found; None before the first."""
        try:
            return read_record(self._storage, f"who/{code}/state.json", IndicatorState)
        except FileNotFoundError:
            return None

    def batches(self, release: Release) -> Iterator[pa.Table]:
        """The rows of a release, some at a time, with the columns of its table that its content decides."""
        path = f"{_release(release.code, release.number)}/rows.parquet"
        with open_sealed(self._storage, path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)

    def set_aside(self, release: Release) -> list[tuple[bytes, str]]:
        """The rows of a release that could not be used, as they were sent, with the reasons."""
        path = f"{_release(release.code, release.number)}/set_aside.parquet"
        with open_sealed(self._storage, path) as file:
            found = file.read().to_pydict()
        return list(zip(found["row"], found["reason"], strict=True))

    def compact(
        self,
        indicator: Indicator,
        end: WalkEnd,
        *,
        most_set_aside: float,
        accept: bool = False,
    ) -> IndicatorState:
        """Make a release of a complete walk, unless one of the same content is there; returns what was found.

        Nothing becomes a release while a blocking check fails (no rows, more than the fraction
        `most_set_aside` of them unusable, a column missing that the release before had), unless somebody
        looked and says `accept`; of no rows none is ever made. Walks that no release is made from are removed.
        """
        before = self.releases(indicator.code)
        former = self.state(indicator.code)
        newest = next(
            (each for each in before if former is not None and each.number == former.release),
            before[-1] if before else None,
        )
        number = max((each.number for each in before), default=0) + 1
        folder = _release(indicator.code, number)
        # Of one that was killed.
        self._storage.delete_folder(folder)
        found = self._write(indicator, end, folder)
        checks = _checks(found, newest, most_set_aside)
        is_held_back = not found.rows or (
            not accept and any(not check.passed and check.blocking for check in checks)
        )
        release = None if newest is None else newest.number
        if is_held_back:
            self._storage.delete_folder(folder)
        else:
            same = [each for each in before if each.content_hash == found.content_hash]
            if same:
                release = same[-1].number
                self._storage.delete_folder(folder)
            else:
                made = found.release(indicator, end, number, {each.name for each in before})
                write_record(self._storage, f"{folder}/release.json", made, create=True)
                release = number
        state = IndicatorState(
            checked_at=datetime.now(UTC),
            walk=end.walk,
            release=release,
            is_held_back=is_held_back,
            checks=checks,
        )
        write_record(self._storage, f"who/{indicator.code}/state.json", state)
        self._prune(indicator.code, end.walk, keep_newest=is_held_back)
        return state

    def _prune(self, code: str, walk: int, *, keep_newest: bool) -> None:
        """Remove walks that came to their end and no release is made from; the newest may be kept to look at."""
        used = {release.walk for release in self.releases(code)}
        for number in self._walks.numbers(code):
            is_over = number < walk or (number == walk and not keep_newest)
            if is_over and number not in used:
                self._walks.delete(code, number)

    def _write(self, indicator: Indicator, end: WalkEnd, folder: str) -> _Found:
        """Write rows and what is set aside of them: a second time if keys repeat, which the first one shows at its end."""
        found = _Found(RowReader(indicator), {})
        self._write_once(indicator, end, folder, found)
        repeated = found.repeated()
        if repeated:
            found = _Found(RowReader(indicator), repeated)
            self._write_once(indicator, end, folder, found)
        return found

    def _write_once(self, indicator: Indicator, end: WalkEnd, folder: str, found: _Found) -> None:
        schema = content_schema(indicator.target)
        with (
            self._writer(f"{folder}/rows.parquet", schema) as rows,
            self._writer(f"{folder}/set_aside.parquet", _SET_ASIDE_SCHEMA) as aside,
        ):
            for batch in self._walks.rows(end.code, end.walk):
                typed: list[TypedRow] = []
                unusable: list[tuple[bytes, str]] = []
                for raw in batch:
                    try:
                        row = found.reader.read(raw)
                        reason = found.take(row)
                    except UnusableRowError as error:
                        reason = str(error)
                    if reason is None:
                        typed.append(row)
                    else:
                        unusable.append((raw, reason))
                        found.reasons[reason] += 1
                if typed:
                    rows.write_table(_table(indicator.target, schema, typed))
                if unusable:
                    columns = [list(column) for column in zip(*unusable, strict=True)]
                    aside.write_table(pa.table(columns, schema=_SET_ASIDE_SCHEMA))

    def _writer(
        self, path: str, schema: pa.Schema
    ) -> contextlib.AbstractContextManager[pq.ParquetWriter]:
        return sealed_writer(
            self._storage, path, schema, compression="zstd", compression_level=_COMPRESSION_LEVEL
        )


@dataclass
class _Found:
    """What is learnt of an answer while its rows are read.

    `repeated_keys` are keys of which an earlier reading found several rows, with whether these say the same.
    """

    reader: RowReader
    repeated_keys: dict[bytes, bool]
    rows: int = 0
    digest: int = 0
    updated_at: datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    # One after the other without objects: there may be millions.
    _keys: bytearray = field(default_factory=bytearray)
    _digests: bytearray = field(default_factory=bytearray)
    _used: set[bytes] = field(default_factory=set)

    @property
    def set_aside(self) -> int:
        return self.reasons.total()

    @property
    def content_hash(self) -> str:
        # A sum, for WHO promises no order of rows, and no row is there twice.
        return f"{self.digest % (1 << _DIGEST_BITS):032x}"

    def take(self, row: TypedRow) -> str | None:
        """Count a row in; returns the reason if it is to be set aside instead."""
        if row.key in self.repeated_keys:
            if not self.repeated_keys[row.key]:
                return "another row has the same key and says something else: neither is used"
            if row.key in self._used:
                return "it is there twice: one is used"
            self._used.add(row.key)
        self._keys += row.key
        self._digests += row.digest
        self.rows += 1
        self.digest += int.from_bytes(row.digest, "big")
        if row.updated_at is not None:
            self.updated_at = max(row.updated_at, self.updated_at or row.updated_at)
        return None

    def repeated(self) -> dict[bytes, bool]:
        """The keys that several of the rows taken have, and whether these rows say the same."""
        keys = np.frombuffer(self._keys, "<u8").reshape(-1, 2)
        digests = np.frombuffer(self._digests, "<u8").reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys, digests = keys[order], digests[order]
        found: dict[bytes, bool] = {}
        for place in np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1)).tolist():
            key = keys[place].tobytes()
            agree = bool((digests[place] == digests[place + 1]).all())
            found[key] = found.get(key, True) and agree
        return found

    def release(self, indicator: Indicator, end: WalkEnd, number: int, taken: set[str]) -> Release:
        updated = self.updated_at or end.completed_at
        name = indicator.release.format(
            last_year=max(self.reader.years, default=updated.year),
            updated=f"{updated:%Y-%m-%d}",
            fetched=f"{end.completed_at:%Y-%m-%d}",
        )
        # Sorts after the name that it begins with, and before those of later years and days.
        again = (f"{name}.{count:02d}" for count in range(2, 1000))
        return Release(
            code=indicator.code,
            number=number,
            name=name if name not in taken else next(each for each in again if each not in taken),
            content_hash=self.content_hash,
            target=indicator.target,
            walk=end.walk,
            rows=self.rows,
            set_aside=self.set_aside,
            columns=sorted(self.reader.columns),
            source=indicator.source,
            licence=indicator.licence,
            fetched_at=end.completed_at,
            updated_at=self.updated_at,
        )


def content_schema(target: TargetTable) -> pa.Schema:
    """The columns of a table that the content of a release decides: not its name, source and licence."""
    return pa.schema(
        [
            field
            for field in TABLES[target].arrow_schema
            if field.name not in {"indicator", "release", "source", "licence"}
        ]
    )


def _table(target: TargetTable, schema: pa.Schema, typed: list[TypedRow]) -> pa.Table:
    columns = [list(column) for column in zip(*(row.values for row in typed), strict=True)]
    if target is TargetTable.OBSERVATIONS:
        columns.insert(0, [observation_key(row.key) for row in typed])
    return pa.table(columns, schema=schema)


def _checks(found: _Found, newest: Release | None, most_set_aside: float) -> list[KeptCheck]:
    """Whether what was fetched may become a release, and what people should know of it."""
    total = found.rows + found.set_aside
    fraction = found.set_aside / total if total else 0.0
    reasons = "; ".join(
        f"{count:,}: {reason}" for reason, count in found.reasons.most_common(_MOST_REASONS)
    )
    columns = found.reader.columns
    missing = sorted(set(newest.columns) - columns) if newest and total else []
    appeared = sorted(found.reader.new_columns - set(newest.columns)) if newest else []
    return [
        _check(
            "has_rows",
            total > 0,
            f"{total:,} rows were fetched",
            "no rows came, although nothing was refused: an old code, or a filter with codes of the past, finds nothing. "
            "The last good data stay",
        ),
        _check(
            "rows_are_usable",
            fraction <= most_set_aside,
            f"{found.rows:,} of {total:,} rows can be used",
            f"{found.set_aside:,} of {total:,} rows cannot be used, more than CTG_MAX_QUARANTINE_FRACTION allows; the last "
            f"good data stay. {reasons}",
        ),
        _check(
            "no_row_is_set_aside",
            not found.set_aside,
            "every row can be used",
            f"{found.set_aside:,} rows were set aside. {reasons}",
        ),
        _check(
            "no_column_is_missing",
            not missing,
            "every column is there that the release before had",
            f"columns of the release before are not there any more: {', '.join(missing)}. The last good data stay; name "
            "the columns that took their place in the indicator's `columns`, or accept it",
        ),
        _check(
            "no_column_is_new",
            not appeared,
            "no column came",
            f"columns that we do not know came, and are kept in `extras`: {', '.join(appeared)}",
        ),
    ]


def _check(name: str, passed: bool, well: str, otherwise: str) -> KeptCheck:
    return KeptCheck(
        name=name,
        passed=passed,
        blocking=CHECKS[name][1],
        description=well if passed else otherwise,
    )


def _folder(code: str) -> str:
    return f"who/{code}/releases"


def _release(code: str, number: int) -> str:
    return f"{_folder(code)}/{number:05d}"
