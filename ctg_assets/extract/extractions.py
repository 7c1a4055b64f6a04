"""Extractions: one walk over a query, from its plan to its end.

An extraction is in exactly one state, told by the files in its folder: `open` (only the plan),
`complete` (all pages are there and belong to one data version) or `superseded` (given up, with the
reason; its pages must not be used).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.records import read_record, write_record

_FOLDER = "extractions"
_PLAN = "plan.json"
_COMPLETION = "complete.json"
_SUPERSESSION = "superseded.json"
_IDS = "ids.json"

_PAGE_NUMBER = re.compile(r"[0-9]{5,}")

_Record = TypeVar("_Record")


class ExtractionMode(StrEnum):
    """How an extraction chose its studies, and what it asked for of them.

    `full` walks every study, `scoped` those that a query matches. `incremental` walks those of either
    that were posted since a day; `census` walks all of either, but asks only for ids and dates;
    `picked` asks for studies by their ids; `import` takes what is in a file.
    """

    FULL = "full"
    SCOPED = "scoped"
    INCREMENTAL = "incremental"
    CENSUS = "census"
    PICKED = "picked"
    IMPORT = "import"

    @property
    def is_whole(self) -> bool:
        """Whether it walks every study of its scope with its content."""
        return self in (ExtractionMode.FULL, ExtractionMode.SCOPED)

    @property
    def covers_scope(self) -> bool:
        """Whether it sees every study of its scope, so that one not seen is not there."""
        return self.is_whole or self is ExtractionMode.CENSUS


class ExtractionState(StrEnum):
    """Whether an extraction's pages can be used."""

    OPEN = "open"
    COMPLETE = "complete"
    SUPERSEDED = "superseded"


class PlannedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of what an extraction asks for, walked by page tokens of its own.

    `within` is the filter that cuts it out (an Essie expression), `expected_studies` what the registry counted in it.
    """

    within: str
    expected_studies: int
    planned_pages: int


class ExtractionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an extraction set out to do; written once, never changed.

    `query` is the scope that the settings ask for, whatever part of it this extraction takes.
    `page_size` counts studies, of a picked extraction the ids asked for. `data_timestamp` is the
    registry's (UTC, no offset). `expected_studies` and `planned_pages` are None for an import, which
    learns them only at its end; of a picked extraction nobody knows which ids are still there, so it
    expects no number. `planned_at` is UTC. `since` is the first posting day of an incremental
    extraction. `reason` says why this mode was chosen. `dated_by_studies` says of an import that each
    of its contents counts as observed on its own last update date, not at `data_timestamp`.
    `number` counts the extractions of a lake in the order of planning, from 1; it is 0 in plans of
    releases that did not count, which are all older than those that did. `chains` are the slices that
    are walked side by side; none means that all pages are one chain.
    """

    extraction_id: str
    mode: ExtractionMode
    source: str
    query: str
    page_size: int
    data_timestamp: str
    planned_at: datetime
    api_version: str | None = None
    expected_studies: int | None = None
    planned_pages: int | None = None
    since: date | None = None
    reason: str | None = None
    dated_by_studies: bool = False
    number: int = 0
    chains: tuple[PlannedChain, ...] = ()

    def page_key(self, page: int) -> str:
        """The partition key of one of its pages (from 1)."""
        return page_key(self.extraction_id, page)

    def page_keys(self) -> list[str]:
        """The partition keys of all its planned pages, in order."""
        return [self.page_key(page) for page in range(1, (self.planned_pages or 0) + 1)]


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete extraction brought home. `completed_at` is UTC."""

    pages: int
    rows: int
    distinct_studies: int
    json_bytes: int
    completed_at: datetime


class _AskedIds(msgspec.Struct, frozen=True):
    """The studies that a picked extraction asks for; earlier releases kept a bare list."""

    ids: list[str]


class Supersession(msgspec.Struct, frozen=True, kw_only=True):
    """Why an extraction was given up. `superseded_at` is UTC."""

    reason: str
    superseded_at: datetime


def planned_pages(studies: int, page_size: int) -> int:
    """How many pages a walk over `studies` takes.

    A page that is exactly full carries a next token even when it is the last; the page after it is
    then empty. So a multiple of the page size takes one page more than it seems to.
    """
    return studies // page_size + 1


def page_key(extraction_id: str, page: int) -> str:
    """The partition key of a page (from 1): `<extraction_id>-<page:05d>`."""
    return f"{extraction_id}-{page:05d}"


def parse_page_key(key: str) -> tuple[str, int]:
    """The extraction id and page number in a partition key; raises ValueError when it is none."""
    extraction_id, _, page = key.rpartition("-")
    if not extraction_id or not _PAGE_NUMBER.fullmatch(page):
        message = f"not a page key: {key!r} (expected <extraction id>-<page number>)"
        raise ValueError(message)
    return extraction_id, int(page)


def new_extraction_id(mode: ExtractionMode, now: datetime) -> str:
    """A new id that sorts by time: `20261121T093015Z-full-1a2b3c`."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{mode}-{secrets.token_hex(3)}"


class ExtractionStore:
    """The extractions of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep extractions in `storage`."""
        self._storage = storage

    def lock(self) -> AbstractContextManager[None]:
        """The right to plan, crawl or import, which one process at a time has; raises BusyError."""
        return self._storage.lock(Work.EXTRACTION)

    def create(self, plan: ExtractionPlan, ids: Sequence[str] | None = None) -> ExtractionPlan:
        """Record a new extraction, which is open from now on; returns its plan, with its number.

        `ids` are the studies that a picked extraction asks for, in the order of its pages. Raises BusyError
        when another process crawls, plans or imports.
        """
        with self.lock():
            known = max((other.number for other in self.plans()), default=0)
            plan = msgspec.structs.replace(plan, number=known + 1)
            if ids is not None:
                # Before the plan: an extraction that can be found can be walked.
                record = _AskedIds(ids=list(ids))
                write_record(self._storage, _path(plan.extraction_id, _IDS), record)
            self._write(plan.extraction_id, _PLAN, plan, create=True)
            return plan

    def restore(self, plan: ExtractionPlan) -> None:
        """Write a plan that was lost again, with the number that it had."""
        self._write(plan.extraction_id, _PLAN, plan)

    def ids(self, extraction_id: str) -> list[str]:
        """The ids that a picked extraction asks for, in the order of its pages; none for others."""
        either: Any = _AskedIds | list[str]
        found = self._read(extraction_id, _IDS, either)
        return found.ids if isinstance(found, _AskedIds) else found or []

    def plan(self, extraction_id: str) -> ExtractionPlan:
        """An extraction's plan; raises KeyError when there is no such extraction."""
        plan = self._read(extraction_id, _PLAN, ExtractionPlan)
        if plan is None:
            message = f"no extraction {extraction_id} in {self._storage.path(_FOLDER)}"
            raise KeyError(message)
        return plan

    def state(self, extraction_id: str) -> ExtractionState:
        """The state of an existing extraction."""
        names = self._storage.names(f"{_FOLDER}/{extraction_id}")
        if _SUPERSESSION in names:
            return ExtractionState.SUPERSEDED
        if _COMPLETION in names:
            return ExtractionState.COMPLETE
        return ExtractionState.OPEN

    def plans(self) -> list[ExtractionPlan]:
        """The plans of all extractions, oldest first."""
        read = (self._read(id_, _PLAN, ExtractionPlan) for id_ in self._storage.names(_FOLDER))
        plans = [plan for plan in read if plan is not None]
        # Not by our clock, which may have been set back since, or be another machine's.
        return sorted(plans, key=lambda plan: (plan.number, plan.planned_at))

    def latest(self, state: ExtractionState) -> ExtractionPlan | None:
        """The plan of the newest extraction in a state, if there is one."""
        matching = (
            plan for plan in reversed(self.plans()) if self.state(plan.extraction_id) is state
        )
        return next(matching, None)

    def open_crawls(self) -> list[ExtractionPlan]:
        """The plans of the walks over a registry that are not finished, oldest first."""
        return [
            plan
            for plan in self.plans()
            if plan.mode is not ExtractionMode.IMPORT
            and self.state(plan.extraction_id) is ExtractionState.OPEN
        ]

    def complete(self, extraction_id: str, completion: Completion) -> None:
        """Mark an extraction complete."""
        self._write(extraction_id, _COMPLETION, completion)

    def completion(self, extraction_id: str) -> Completion | None:
        """What a complete extraction brought home; None when it is not complete."""
        return self._read(extraction_id, _COMPLETION, Completion)

    def supersede(self, extraction_id: str, reason: str) -> None:
        """Give an extraction up; its pages will not be used."""
        supersession = Supersession(reason=reason, superseded_at=datetime.now(UTC))
        self._write(extraction_id, _SUPERSESSION, supersession)

    def supersession(self, extraction_id: str) -> Supersession | None:
        """Why an extraction was given up; None when it was not."""
        return self._read(extraction_id, _SUPERSESSION, Supersession)

    def delete(self, extraction_id: str) -> None:
        """Remove an extraction with all its shards; after a crash, deleting again finishes it."""
        # Given up first, so that half of it never counts; the plan last, so that it is still found.
        if self.state(extraction_id) is not ExtractionState.SUPERSEDED:
            self.supersede(extraction_id, "it was about to be deleted")
        self._storage.delete_folder(f"{_FOLDER}/{extraction_id}/pages")
        self._storage.delete_file(_path(extraction_id, _PLAN))
        self._storage.delete_folder(f"{_FOLDER}/{extraction_id}")

    def _write(
        self, extraction_id: str, name: str, content: msgspec.Struct, *, create: bool = False
    ) -> None:
        write_record(self._storage, _path(extraction_id, name), content, create=create)

    def _read(self, extraction_id: str, name: str, kind: type[_Record]) -> _Record | None:
        try:
            return read_record(self._storage, _path(extraction_id, name), kind)
        except FileNotFoundError:
            return None


def _path(extraction_id: str, name: str) -> str:
    return f"{_FOLDER}/{extraction_id}/{name}"
