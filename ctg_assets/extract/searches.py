"""Saved searches, asked of the registry once per data version, and the studies that they found.

The registry alone knows what its query language means: synonyms, stems, and which parts of a study count.
So it is asked, for ids only, of everything that it has: a search means the same whatever part of the
registry is mirrored.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from operator import itemgetter

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.search_file import SavedSearch
from ctg_assets.model.identity import identify
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import BadRequestError, RegistryError, TransientRegistryError
from ctg_assets.results import CheckResult, Listing
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer
from ctg_assets.times import parse_data_timestamp

_log = logging.getLogger(__name__)

_FOLDER = "searches"
_PAGE_SIZE = 1000

# Ten times the registry. A registry whose tokens lead nowhere would be walked for ever.
_MOST_PAGES = 6000

# A busy moment is waited for; nothing that a refresh needs hangs on the answer.
_PATIENCE_SECONDS = 30.0

_MOST_NAMED = 3

FOUND = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("found_at", pa.timestamp("us"), nullable=False),
        pa.field("lost_at", pa.timestamp("us")),
    ]
)
"""The studies that a search found, by id: the data versions (UTC) since which, and until which if it no longer does."""


_FoundRow = tuple[str, datetime, datetime | None]


class SearchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a search last found: by which query, and at which data version.

    `first_as_of` is that of the first answer, `changed_as_of` that since which it finds these studies.
    `file` holds `studies` studies, and those that it found before; it is named by its content.
    """

    query: str
    first_as_of: str
    changed_as_of: str
    as_of: str
    file: str
    studies: int


class SearchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a registry was last asked a saved search, at which data version, and what it last answered.

    `problem` says why the last asking failed; `answer` is then of an earlier one. `is_final` says that
    asking the same again at the same data version is of no use.
    """

    source: str
    name: str
    query: str
    asked_as_of: str
    asked_at: datetime
    is_final: bool = True
    problem: str | None = None
    answer: SearchAnswer | None = None


class SearchUnfinishedError(CtgAssetsError):
    """The pages of a search's answer do not belong together; the next data version is asked again."""


def evaluate_searches(
    client: RegistryClient, storage: Storage, searches: Sequence[SavedSearch], data_timestamp: str
) -> CheckResult:
    """Ask the registry each search that was not asked at this data version yet; says what came of all.

    Never blocking: a search that cannot be asked keeps the studies that it found last. Costs a request for
    each thousand studies found. As soon as the registry does not answer, no more is asked of it.
    Raises BusyError when another process asks, plans, crawls or imports.
    """
    with storage.lock(Work.EXTRACTION):
        source = client.api_url
        for search in searches:
            held = _held(storage, source, search)
            if held is not None and _is_settled(held, search, data_timestamp):
                continue
            asked = SearchRecord(
                source=source,
                name=search.name,
                query=search.query,
                asked_as_of=data_timestamp,
                asked_at=datetime.now(UTC),
                answer=None if held is None else held.answer,
            )
            try:
                found = _ask(client, search, data_timestamp)
            except (RegistryError, SearchUnfinishedError) as error:
                _log.warning("search %r keeps what it found last: %s", search.name, error)
                is_final = isinstance(error, BadRequestError)
                failed = msgspec.structs.replace(asked, problem=str(error), is_final=is_final)
                write_record(storage, _record_path(source, search), failed)
                if isinstance(error, TransientRegistryError):
                    break
            else:
                _keep(storage, search, asked, found)
        return searches_check(storage, source, searches)


def searches_check(storage: Storage, source: str, searches: Sequence[SavedSearch]) -> CheckResult:
    """Whether a registry answered each saved search when it was last asked; never blocking.

    Raises DamagedFileError.
    """
    records = {search.name: recorded_search(storage, source, search) for search in searches}
    rows, problems = [], []
    for search in searches:
        record = records[search.name]
        answer = None if record is None else record.answer
        problem = None if record is None else record.problem
        if problem is None and answer is None:
            problem = "not asked yet; the next data version is"
        elif problem is None and answer is not None and answer.query != search.query:
            problem = (
                "its query was changed since it was asked; the next data version is asked anew"
            )
        studies, as_of = ("", "") if answer is None else (str(answer.studies), answer.as_of)
        rows.append((search.name, studies, as_of, problem or ""))
        if problem is not None:
            problems.append(f"{search.name!r}: {problem}")
    facts: dict[str, int | float | str | Listing] = {
        "searches": Listing(("name", "studies", "as of (UTC)", "problem"), tuple(rows))
    }
    if not problems:
        found = ", ".join(f"{name}: {studies}" for name, studies, *_ in rows[:_MOST_NAMED])
        more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
        counted = f"studies found by saved searches: {found}{more}" if rows else "no saved searches"
        return CheckResult(True, counted, blocking=False, facts=facts)
    shown = "; ".join(problems[:_MOST_NAMED])
    more = f"; and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
    described = f"{len(problems)} of {len(searches)} saved searches have no answer of now, and keep their last: {shown}{more}"
    return CheckResult(False, described, blocking=False, facts=facts)


def recorded_search(storage: Storage, source: str, search: SavedSearch) -> SearchRecord | None:
    """How a registry was last asked a search of this name; None if it never was.

    Raises DamagedFileError.
    """
    try:
        record = read_record(storage, _record_path(source, search), SearchRecord)
    except FileNotFoundError:
        return None
    if record.answer is not None and not storage.exists(record.answer.file):
        return msgspec.structs.replace(record, answer=None, is_final=False)
    return record


def studies_found(storage: Storage, answer: SearchAnswer, at: datetime | None = None) -> pa.Table:
    """The studies of an answer, or those that the search found at a time (UTC, without a zone): ids, `found_at`.

    Ordered by id. Raises DamagedFileError.
    """
    rows = _all_found(storage, answer)
    if at is None:
        return rows.filter(pc.is_null(rows["lost_at"])).drop_columns(["lost_at"])
    then = pa.scalar(at, FOUND.field("found_at").type)
    is_lost = pc.fill_null(pc.less_equal(rows["lost_at"], then), fill_value=False)
    rows = rows.filter(pc.and_not(pc.less_equal(rows["found_at"], then), is_lost))
    # Where the registry's data versions went back, a study may have been found twice.
    firsts = rows.group_by("nct_id", use_threads=False).aggregate([("found_at", "min")])
    return firsts.rename_columns(["nct_id", "found_at"])


def _all_found(storage: Storage, answer: SearchAnswer) -> pa.Table:
    with open_sealed(storage, answer.file) as file:
        return file.read()


def _held(storage: Storage, source: str, search: SavedSearch) -> SearchRecord | None:
    # A damaged answer is as good as none: the registry is about to be asked again.
    with suppress(DamagedFileError):
        return recorded_search(storage, source, search)
    return None


def _is_settled(record: SearchRecord, search: SavedSearch, data_timestamp: str) -> bool:
    asked = (record.query, record.asked_as_of)
    return record.is_final and asked == (search.query, data_timestamp)


def _ask(client: RegistryClient, search: SavedSearch, data_timestamp: str) -> list[str]:
    """The ids of the studies that a search finds, sorted."""
    found: set[str] = set()
    token = None
    for page in count(1):
        if page > _MOST_PAGES:
            message = f"the registry has more than {_MOST_PAGES} pages for search {search.name!r}"
            raise SearchUnfinishedError(message)
        request = PageRequest(search.query, _PAGE_SIZE, token, fields=("NCTId",))
        answer = client.page(request, retry_seconds=_PATIENCE_SECONDS)
        ids = (identify(study).nct_id for study in answer.studies)
        found |= {nct_id for nct_id in ids if nct_id is not None and is_nct_id(nct_id)}
        token = answer.next_token
        if token is None:
            break
    # From one data version to the next a study may move from a page not read yet to one that was read.
    if page > 1:
        now = client.version(retry_seconds=_PATIENCE_SECONDS).data_timestamp
        if now != data_timestamp:
            message = f"the data version moved from {data_timestamp} to {now} between its pages"
            raise SearchUnfinishedError(message)
    return sorted(found)


def _keep(storage: Storage, search: SavedSearch, asked: SearchRecord, found: list[str]) -> None:
    """Make the ids that a search found its last answer; those found before keep their dates."""
    before = asked.answer
    rows: list[_FoundRow] = []
    if before is not None:
        # What cannot be read is found anew.
        with suppress(DamagedFileError):
            rows = [tuple(row.values()) for row in _all_found(storage, before).to_pylist()]
    now = parse_data_timestamp(asked.asked_as_of).replace(tzinfo=None)
    rows = sorted(_followed(rows, found, now), key=itemgetter(0, 1))
    digest = hashlib.sha256("\n".join(map(str, rows)).encode()).hexdigest()[:16]
    prefix = _prefix(asked.source, search)
    file = f"{_FOLDER}/{prefix}-{digest}.parquet"
    is_same = before is not None and (before.file, before.query) == (file, search.query)
    answer = SearchAnswer(
        query=search.query,
        first_as_of=asked.asked_as_of if before is None else before.first_as_of,
        changed_as_of=before.changed_as_of if before and is_same else asked.asked_as_of,
        as_of=asked.asked_as_of,
        file=file,
        studies=len(found),
    )
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.Table.from_arrays(
        [pa.array(values, each.type) for values, each in zip(columns, FOUND, strict=True)],
        schema=FOUND,
    )
    with sealed_writer(storage, answer.file, FOUND, compression="zstd") as writer:
        writer.write_table(table)
    write_record(
        storage,
        _record_path(asked.source, search),
        msgspec.structs.replace(asked, answer=answer),
    )
    # The last one but this may be being read.
    kept = {answer.file, None if before is None else before.file}
    for name in storage.names(_FOLDER):
        path = f"{_FOLDER}/{name}"
        if name.startswith(f"{prefix}-") and path not in kept:
            storage.delete_file(path)


def _followed(
    rows: Iterable[_FoundRow], found: Collection[str], now: datetime
) -> Iterator[_FoundRow]:
    """The rows after an answer: what it no longer has ends, and what it has anew begins."""
    current, wanted = set(), set(found)
    for nct_id, found_at, lost_at in rows:
        if lost_at is not None or nct_id in wanted:
            yield nct_id, found_at, lost_at
            if lost_at is None:
                current.add(nct_id)
        # What was found and lost at one data version, by another query, was not found.
        elif found_at < now:
            yield nct_id, found_at, now
    for nct_id in wanted - current:
        yield nct_id, now, None


def _prefix(source: str, search: SavedSearch) -> str:
    return hashlib.sha256(f"{source}\n{search.name}".encode()).hexdigest()[:16]


def _record_path(source: str, search: SavedSearch) -> str:
    return f"{_FOLDER}/{_prefix(source, search)}.json"
