"""kill -9 while ten indicators are fetched and loaded: nothing is lost, nothing is there twice."""

from __future__ import annotations

import multiprocessing
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings
from ctg_assets.simulator.who import Row
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.who.refreshing import RefreshPart, WhoSource
from ctg_assets_tests.soak import times
from ctg_assets_tests.who.conftest import Who, ghe, gho

pytestmark = pytest.mark.process

Ask = Callable[..., list[tuple[Any, ...]]]

KILLS = times(2, 30)
CODES = [f"LIFE_{number}" for number in range(1, 10)]
INDICATORS = [*(gho(code) for code in CODES), ghe(page_size=40)]
_PATIENCE_SECONDS = 60.0

# 4 pages each and 5, twice the steps of making a release, and loading.
_MESSAGES_OF_A_REFRESH = 9 * 4 + 5 + 2 * 10 + 10


def published(seed: int) -> dict[str, list[Row]]:
    """What WHO has of the ten indicators at some time."""
    years = range(2018, 2022)
    return {
        **{code: gho_rows(code, years=years, seed=seed) for code in CODES},
        "DEX_CMS/GHE_FULL": ghe_rows(years=range(2021, 2022), seed=seed),
    }


def _refresh(settings: Settings, messages: Connection) -> None:
    def tell(code: str, stage: RefreshPart, done: int, total: int | None) -> None:
        messages.send((code, stage.value))

    WhoSource(settings).refresh(INDICATORS, tell)


@contextmanager
def refreshing(settings: Settings) -> Iterator[tuple[Any, Connection]]:
    """A process that refreshes, and what it says as it goes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_refresh, args=(settings, sending), daemon=True)
    process.start()
    sending.close()
    try:
        yield process, receiving
    finally:
        process.kill()
        process.join(_PATIENCE_SECONDS)
        receiving.close()
        process.close()


def test_killed_refreshes_lose_nothing(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Whenever a refresh is killed, each release is loaded as a whole or not at all, and the next one goes on from there.

    A kill costs 0.7 s, most of it for the process.
    """
    draw = random.Random(7)
    settings = who.settings(postgres_url=address.url)
    source, seed = WhoSource(settings), 1
    who.simulator.gho_page_size = 25
    who.simulator.entities |= published(seed)
    killed = 0
    while killed < KILLS:
        kill_at = draw.randrange(1, _MESSAGES_OF_A_REFRESH)
        with refreshing(settings) as (process, messages):
            heard = 0
            try:
                while heard < kill_at and messages.poll(_PATIENCE_SECONDS):
                    messages.recv()
                    heard += 1
                process.kill()
            except EOFError:
                # It was over before: WHO publishes, so that there is something to do again.
                seed += 1
                who.simulator.entities |= published(seed)
            process.join(_PATIENCE_SECONDS)
            killed += process.exitcode == -signal.SIGKILL
        _require_whole_releases(rows_of)
    assert not [outcome.problem for outcome in source.refresh(INDICATORS) if outcome.problem]
    _require_whole_releases(rows_of)
    for code in CODES:
        found = rows_of(
            "SELECT spatial_code, time_value::integer, dim1, numeric_value FROM who.observations "
            "JOIN who.releases USING (indicator, release) WHERE indicator = %s AND is_newest",
            code,
        )
        assert sorted(found) == sorted(
            (row["SpatialDim"], row["TimeDim"], row["Dim1"], row["NumericValue"])
            for row in published(seed)[code]
        )
    [(rows, dalys)] = rows_of(
        "SELECT count(*), sum(dalys) FROM who.global_health_estimates JOIN who.releases USING (indicator, release) "
        "WHERE is_newest"
    )
    sent = published(seed)["DEX_CMS/GHE_FULL"]
    assert rows == len(sent)
    assert dalys == pytest.approx(sum(row["VAL_DALY_COUNT_NUMERIC"] for row in sent))
    # Every release that the lake has was made once, and its raw rows are kept.
    for indicator in INDICATORS:
        releases = source.releases.releases(indicator.code)
        assert len({release.content_hash for release in releases}) == len(releases) <= seed
        assert {release.walk for release in releases} <= {*source.walks.numbers(indicator.code)}


def _require_whole_releases(rows_of: Ask) -> None:
    """Each release in the tables has all the rows that it is said to have, and none is there that is not told of."""
    if rows_of("SELECT to_regclass('who.releases')") == [(None,)]:
        return
    assert (
        rows_of(
            """
            SELECT indicator, release, r.rows, found.rows
            FROM who.releases AS r FULL JOIN (
                SELECT indicator, release, count(*) AS rows FROM who.observations GROUP BY 1, 2
                UNION ALL
                SELECT indicator, release, count(*) FROM who.global_health_estimates GROUP BY 1, 2
            ) AS found USING (indicator, release)
            WHERE r.rows IS DISTINCT FROM found.rows
            """
        )
        == []
    )
