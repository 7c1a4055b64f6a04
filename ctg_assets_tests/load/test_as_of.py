"""The tables as they stood in the past, against what was live then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.lake import Lake
from ctg_assets.load.as_of import NothingObservedError, load_as_of
from ctg_assets.load.row_sources import study_shapes
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.settings import Settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.support.lakes import completed, json_of, planned
from ctg_assets_tests.support.postgres import query

DAYS = [f"2026-11-{day}T09:00:05" for day in (10, 12, 15)]


def _generated() -> list[bytes]:
    source = GeneratedSource(30, seed=3)
    return [source.raw(index) for index in range(30)]


def _titled(study: bytes, title: str) -> bytes:
    content = msgspec.json.decode(study)
    content["protocolSection"]["identificationModule"]["briefTitle"] = title
    content["novel"] = {"title": title}
    return msgspec.json.encode(content)


def _observe(
    lake: Lake, settings: Settings, address: PostgresAddress, day: str, studies: Sequence[bytes]
) -> None:
    plan = planned(lake, settings, studies=len(studies), data_timestamp=day)
    completed(lake, plan, studies)
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))


def _rows(address: PostgresAddress, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    return {
        shape.name: query(
            address, f"SELECT * FROM {schema}.{shape.name} ORDER BY {shape.primary_key[0]}"
        )
        for shape in study_shapes()
    }


def _display(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[str]]:
    # JSON columns are read as objects, which do not compare by spelling; their text does.
    return {name: [repr(row) for row in found] for name, found in rows.items()}


def test_each_day_is_as_it_was(lake: Lake, settings: Settings, address: PostgresAddress) -> None:
    """After updates, removals and restorations, each past day's tables equal those that were live then."""
    first = _generated()
    second = [_titled(first[0], "Changed"), *first[1:5], *first[6:]]
    third = [*first[:2], _titled(first[2], "Changed as well"), *first[3:]]
    live = {}
    for day, studies in zip(DAYS, (first, second, third), strict=True):
        _observe(lake, settings, address, day, studies)
        live[day] = _rows(address, "staging")
    assert live[DAYS[0]] != live[DAYS[1]] != live[DAYS[2]]
    for number, day in enumerate(DAYS):
        report = load_as_of(address, lake, parse_data_timestamp(day), f"day_{number}")
        assert report.rows["studies"] == len(live[day]["studies"])
        assert _display(_rows(address, f"day_{number}")) == _display(live[day])
    assert _display(_rows(address, "staging")) == _display(live[DAYS[2]]), (
        "staging should be left alone"
    )

    between = datetime(2026, 11, 14, tzinfo=UTC)
    load_as_of(address, lake, between, "day_0")
    assert _display(_rows(address, "day_0")) == _display(live[DAYS[1]]), (
        "the schema should be replaced"
    )


def test_a_time_before_the_history_is_refused(
    lake: Lake, settings: Settings, address: PostgresAddress
) -> None:
    """The message says since when there is something."""
    with pytest.raises(NothingObservedError, match="the history is empty"):
        load_as_of(address, lake, datetime(2026, 1, 1, tzinfo=UTC), "day")
    plan = planned(lake, settings, studies=2)
    completed(lake, plan, json_of(1, 2))
    Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    with pytest.raises(
        NothingObservedError, match="the first observation is of 2026-11-20 09:00:05 UTC"
    ):
        load_as_of(address, lake, datetime(2026, 1, 1, tzinfo=UTC), "day")


_RESERVED = (
    *("staging", "staging_views", "intermediate", "marts", "ctg_meta"),
    *("public", "information_schema", "pg_catalog", "pg_temp", "pg_toast", "pg_mine"),
)


@given(
    name=st.sampled_from(_RESERVED),
    ending=st.sampled_from(["", "_next"]),
    around=st.sampled_from(["", '"', "'", " ", "\t"]),
    capitals=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_no_reserved_schema_is_written_over(
    name: str, ending: str, around: str, capitals: list[bool]
) -> None:
    """A schema with a purpose is refused before anything is read, in any case and quotes.

    The space: every schema of ours and of Postgres, the ones that loads prepare tables in, each letter
    large or small, within quotes or white space.
    """
    spelled = "".join(
        letter.upper() if large else letter
        for letter, large in zip(name + ending, capitals, strict=False)
    )
    nobody = PostgresAddress("nowhere.invalid", 1, "nobody", "nothing")
    lake = cast("Lake", None)
    with pytest.raises(PermanentWarehouseError, match="has another purpose; choose another name"):
        load_as_of(nobody, lake, datetime(2026, 1, 1, tzinfo=UTC), f"{around}{spelled}{around}")
