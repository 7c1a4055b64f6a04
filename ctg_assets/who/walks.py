"""Walks: everything that WHO has of an indicator at one time, a Parquet file a page, which is also the checkpoint.

A page's rows and the position of the page after it become visible in one step, as those of the registry do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa

from ctg_assets.registry.errors import PermanentRegistryError
from ctg_assets.registry.requests import Api, ApiRequests
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer
from ctg_assets.who.dialects import START, dialect_of
from ctg_assets.who.errors import IncompleteAnswerError
from ctg_assets.who.indicators import Indicator

# A row's JSON, byte for byte as WHO sent it.
PAGE_SCHEMA = pa.schema([pa.field("row", pa.large_binary(), nullable=False)])

_METADATA_KEY = b"ctg_assets.who_page"
_PAGE_NAME = re.compile(r"([0-9]{5,})\.parquet")
_WALK_NAME = re.compile(r"[0-9]{5,}")
_COMPRESSION_LEVEL = 3

# Pages of two days may be of two releases.
_OLDEST_OPEN_WALK = timedelta(days=1)

_ROWS_OF_A_BATCH = 20_000


class WalkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; `request` is a digest of all that decides the answer. `planned_at` is UTC."""

    code: str
    walk: int
    request: str
    url: str
    planned_at: datetime


class RowPageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page comes from; kept in the file's metadata."""

    walk: int
    page: int
    position: str
    next_position: str | None
    count: int | None
    rows: int
    json_bytes: int
    fetched_at: datetime


class WalkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """That all pages of a walk are there, and add up."""

    code: str
    walk: int
    pages: int
    rows: int
    completed_at: datetime


Progress = Callable[[int, int | None], None]
"""Hears how many rows are there, and how many there will be if that is known."""


class WalkStore:
    """The walks of all indicators of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep walks in `storage`."""
        self._storage = storage

    def numbers(self, code: str) -> list[int]:
        """The walks of an indicator whose plan is there, ascending."""
        names = self._storage.names(_folder(code))
        return [
            int(name)
            for name in names
            if _WALK_NAME.fullmatch(name)
            and self._storage.exists(f"{_folder(code)}/{name}/plan.json")
        ]

    def plan(self, code: str, walk: int) -> WalkPlan:
        """What a walk asks for; raises FileNotFoundError when there is no such walk."""
        return read_record(self._storage, f"{_walk(code, walk)}/plan.json", WalkPlan)

    def end(self, code: str, walk: int) -> WalkEnd | None:
        """How a walk ended; None while it is open."""
        try:
            return read_record(self._storage, f"{_walk(code, walk)}/complete.json", WalkEnd)
        except FileNotFoundError:
            return None

    def newest_complete(self, code: str) -> WalkEnd | None:
        """The last walk that came to its end."""
        ends = (self.end(code, walk) for walk in reversed(self.numbers(code)))
        return next((end for end in ends if end is not None), None)

    def infos(self, code: str, walk: int) -> list[RowPageInfo]:
        """The pages that are there without a gap, in their order."""
        found: list[RowPageInfo] = []
        for page in self._pages(code, walk):
            if page != len(found) + 1:
                break
            found.append(self._info(code, walk, page))
        return found

    def rows(self, code: str, walk: int) -> Iterator[list[bytes]]:
        """All rows of a walk as they were sent, in their order, some at a time."""
        for page in self._pages(code, walk):
            with open_sealed(self._storage, _page(code, walk, page)) as file:
                for batch in file.iter_batches(batch_size=_ROWS_OF_A_BATCH):
                    yield batch.column(0).to_pylist()

    def delete(self, code: str, walk: int) -> None:
        """Remove a walk: its plan first, without which nobody sees it."""
        self._storage.delete_file(f"{_walk(code, walk)}/plan.json")
        self._storage.delete_folder(_walk(code, walk))

    def fetch(self, requests: ApiRequests, indicator: Indicator, progress: Progress) -> WalkEnd:
        """Walk to the end, from where an earlier call of the same question was ended; returns how it ended.

        Raises RegistryError, and IncompleteAnswerError where pages do not add up to the count or the count
        changes on the way. What cannot go on is given up: the next call begins a new walk. After a transient
        failure it goes on with this one.
        """
        plan = self._open_walk(requests.api, indicator)
        try:
            return self._walk_on(requests, indicator, plan, progress)
        except (PermanentRegistryError, IncompleteAnswerError, DamagedFileError):
            self.delete(plan.code, plan.walk)
            raise

    def _walk_on(
        self, requests: ApiRequests, indicator: Indicator, plan: WalkPlan, progress: Progress
    ) -> WalkEnd:
        infos = self.infos(plan.code, plan.walk)
        while not infos or infos[-1].next_position is not None:
            infos.append(self._fetch_page(requests, indicator, plan, infos))
            progress(sum(info.rows for info in infos), infos[0].count)
        rows, counted = sum(info.rows for info in infos), infos[0].count
        if counted is not None and counted != rows:
            message = (
                f"{plan.url} counts {counted:,} rows and sent {rows:,}: the answer was cut, or the data moved. The last "
                "good data stay; try again"
            )
            raise IncompleteAnswerError(message)
        end = WalkEnd(
            code=plan.code, walk=plan.walk, pages=len(infos), rows=rows, completed_at=_now()
        )
        write_record(self._storage, f"{_walk(plan.code, plan.walk)}/complete.json", end)
        return end

    def _open_walk(self, api: Api, indicator: Indicator) -> WalkPlan:
        code, request = indicator.code, request_digest(api, indicator)
        numbers = self.numbers(code)
        for walk in numbers:
            if self.end(code, walk) is not None:
                continue
            plan = self.plan(code, walk)
            if plan.request == request and _now() - plan.planned_at < _OLDEST_OPEN_WALK:
                self._storage.delete_unfinished(f"{_walk(code, walk)}/pages")
                return plan
            self.delete(code, walk)
        plan = WalkPlan(
            code=code,
            walk=max(numbers, default=0) + 1,
            request=request,
            url=f"{api.url}/{indicator.asked_for}",
            planned_at=_now(),
        )
        # Of a walk that was removed while somebody killed us.
        self._storage.delete_folder(_walk(code, plan.walk))
        write_record(self._storage, f"{_walk(code, plan.walk)}/plan.json", plan, create=True)
        return plan

    def _fetch_page(
        self,
        requests: ApiRequests,
        indicator: Indicator,
        plan: WalkPlan,
        before: list[RowPageInfo],
    ) -> RowPageInfo:
        position = before[-1].next_position if before else START
        assert position is not None  # noqa: S101 - the caller asks for a page after another
        positions = [info.position for info in before]
        found = dialect_of(indicator).page(requests, indicator, position, positions)
        if before and found.count is not None and found.count != before[0].count:
            message = (
                f"{plan.url} counted {before[0].count} rows on its first page and {found.count:,} on page "
                f"{len(before) + 1}: its data moved. The last good data stay; try again"
            )
            raise IncompleteAnswerError(message)
        info = RowPageInfo(
            walk=plan.walk,
            page=len(before) + 1,
            position=position,
            next_position=found.next_position,
            count=found.count,
            rows=len(found.rows),
            json_bytes=sum(map(len, found.rows)),
            fetched_at=_now(),
        )
        self._write(plan.code, info, found.rows)
        return info

    def _write(self, code: str, info: RowPageInfo, rows: list[bytes]) -> None:
        metadata = {_METADATA_KEY: msgspec.json.encode(info)}
        schema = PAGE_SCHEMA.with_metadata(metadata)
        with sealed_writer(
            self._storage,
            _page(code, info.walk, info.page),
            schema,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=False,
            write_statistics=False,
        ) as writer:
            writer.write_table(pa.table([rows], schema=schema))

    def _pages(self, code: str, walk: int) -> list[int]:
        names = self._storage.names(f"{_walk(code, walk)}/pages")
        return sorted(int(match[1]) for name in names if (match := _PAGE_NAME.fullmatch(name)))

    def _info(self, code: str, walk: int, page: int) -> RowPageInfo:
        relative = _page(code, walk, page)
        with open_sealed(self._storage, relative) as file:
            metadata = file.metadata.metadata
        try:
            return msgspec.json.decode(metadata[_METADATA_KEY], type=RowPageInfo)
        except (TypeError, KeyError, msgspec.DecodeError) as error:
            raise DamagedFileError(self._storage, relative, "it is no page of WHO's") from error


def request_digest(api: Api, indicator: Indicator) -> str:
    """A digest of all that decides what an indicator's pages are."""
    asked = (
        indicator.dialect.value,
        f"{api.url}/{indicator.asked_for}",
        indicator.filter,
        indicator.order_by,
        str(indicator.page_size),
    )
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


def _folder(code: str) -> str:
    return f"who/{code}/walks"


def _walk(code: str, walk: int) -> str:
    return f"{_folder(code)}/{walk:05d}"


def _page(code: str, walk: int, page: int) -> str:
    return f"{_walk(code, walk)}/pages/{page:05d}.parquet"
