"""Rows of AACT's tables that no study has: saved searches, what they found, and MeSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.aact.mesh import mesh_fingerprint, mesh_rows
from ctg_assets.aact.request import CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.extract.search_file import SavedSearch, saved_searches
from ctg_assets.extract.searches import SearchAnswer, recorded_search, studies_found
from ctg_assets.lake import Lake
from ctg_assets.load.request import LoadProgress
from ctg_assets.load.staging import digest
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings
from ctg_assets.times import parse_data_timestamp

SEARCH_TABLES = ("study_searches", "search_results", "search_terms", "search_term_results")

# A result's number is that of its search, followed by the eight digits of its study's.
_STUDY_NUMBERS = 100_000_000

_Answered = tuple[SavedSearch, SearchAnswer]


def ctgov_request(
    address: PostgresAddress,
    lake: Lake,
    settings: Settings,
    progress: Callable[[LoadProgress], None] | None = None,
) -> CtgovRequest:
    """The request for AACT's tables as the settings ask for them; raises what `other_rows` raises."""
    # Before the rows: what changes meanwhile is made next time.
    fingerprints = other_fingerprints(lake, settings)
    return CtgovRequest(address, other_rows(lake, settings), fingerprints, progress)


def other_rows(lake: Lake, settings: Settings, at: datetime | None = None) -> dict[str, pa.Table]:
    """The rows of the tables that are not made from staging, by table, as the settings ask for them.

    With a time (aware), the studies are those that searches found then; MeSH is always that of the file.
    Rows may name studies that staging does not have. Raises SearchFileError and MeshFileError for files that
    cannot be used, and DamagedFileError.
    """
    answered = [
        (search, answer)
        for search, answer in _answered(lake, settings)
        if at is None or parse_data_timestamp(answer.first_as_of) <= at
    ]
    results = _results(lake, answered, at)
    rows = {
        "study_searches": _study_searches(answered),
        "search_results": results,
        "search_terms": _search_terms(answered),
        "search_term_results": _search_term_results(results),
    }
    if settings.mesh_file is not None:
        rows |= mesh_rows(lake.storage, settings.mesh_file)
    return rows


def other_fingerprints(lake: Lake, settings: Settings) -> dict[str, str]:
    """What `other_rows` depends on: texts that change when its rows do, told without reading rows.

    Raises what `other_rows` raises.
    """
    searches = [
        # Not when it was last asked: the same answer of a newer data version changes no row.
        f"{search.name!r} {search.grouping!r} {answer.query!r} {answer.first_as_of} "
        f"{answer.changed_as_of} {answer.file}"
        for search, answer in _answered(lake, settings)
    ]
    found = {"searches": digest(*searches)}
    mesh = mesh_fingerprint(settings.mesh_file)
    return found if mesh is None else {**found, "mesh": mesh}


def require_usable_files(settings: Settings) -> None:
    """Raise SearchFileError or MeshFileError when the settings name a file that cannot be used, if that is seen soon."""
    if settings.aact:
        saved_searches(settings.searches_file)
        mesh_fingerprint(settings.mesh_file)


def _answered(lake: Lake, settings: Settings) -> Iterator[_Answered]:
    """The saved searches that the registry has answered, each with its last answer."""
    for search in saved_searches(settings.searches_file):
        record = recorded_search(lake.storage, settings.api_url, search)
        if record is not None and record.answer is not None:
            yield search, record.answer


def _study_searches(answered: Sequence[_Answered]) -> pa.Table:
    return _table(
        "study_searches",
        [
            {
                "id": search.search_id,
                "save_tsv": False,
                "query": answer.query,
                "grouping": search.grouping,
                "name": search.name,
                "beta_api": False,
                "created_at": _time(answer.first_as_of),
                "updated_at": _time(answer.changed_as_of),
                "active": True,
            }
            for search, answer in answered
        ],
    )


def _search_terms(answered: Sequence[_Answered]) -> pa.Table:
    return _table(
        "search_terms",
        [
            {
                "id": search.search_id,
                "term": search.name,
                "group": search.grouping,
                "created_at": _time(answer.first_as_of),
                "updated_at": _time(answer.changed_as_of),
            }
            for search, answer in answered
        ],
    )


def _results(lake: Lake, answered: Sequence[_Answered], at: datetime | None) -> pa.Table:
    """The rows of search_results: a study's stays the same for as long as the search finds it."""
    then = None if at is None else at.astimezone(UTC).replace(tzinfo=None)
    schema = _schema("search_results")
    tables = [schema.empty_table()]
    for search, answer in answered:
        found = studies_found(lake.storage, answer, then)
        numbers = pc.cast(pc.utf8_slice_codeunits(found["nct_id"], 3), pa.int64())
        columns = {
            "id": pc.add(numbers, search.search_id * _STUDY_NUMBERS),
            "nct_id": found["nct_id"],
            "name": _constant(search.name, found),
            "created_at": found["found_at"],
            "updated_at": found["found_at"],
            "grouping": _constant(search.grouping, found),
            "study_search_id": _constant(search.search_id, found),
        }
        tables.append(pa.table([columns[name] for name in schema.names], schema=schema))
    return pa.concat_tables(tables)


def _search_term_results(results: pa.Table) -> pa.Table:
    columns = {"id": "id", "nct_id": "nct_id", "search_term_id": "study_search_id"} | {
        name: name for name in ("created_at", "updated_at")
    }
    schema = _schema("search_term_results")
    return pa.table([results[columns[name]] for name in schema.names], schema=schema)


def _constant(value: str | int, rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(value), rows.num_rows)


def _table(name: str, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=_schema(name))


def _schema(name: str) -> pa.Schema:
    return next(table.shape.arrow_schema for table in aact_tables() if table.name == name)


def _time(data_timestamp: str) -> datetime:
    return parse_data_timestamp(data_timestamp).replace(tzinfo=None)
