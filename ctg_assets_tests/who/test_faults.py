"""What goes wrong with WHO's answers ends in a clear message or check, and the last good data stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.errors import PermanentError, TransientError
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.registry.errors import RegistryError
from ctg_assets.simulator.who import WhoFault, WhoSimulator
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.who.indicators import Indicator
from ctg_assets.who.refreshing import WhoSource
from ctg_assets_tests.who.conftest import Who, ghe, gho

Ask = Callable[..., list[tuple[Any, ...]]]

INDICATORS = [gho("LIFE"), ghe()]
BY_DIALECT = pytest.mark.parametrize("indicator", INDICATORS, ids=["gho", "xmart"])


ROWS = {"LIFE": gho_rows("LIFE", years=range(2010, 2022)), "DEX_CMS/GHE_FULL": ghe_rows()}


@pytest.fixture(scope="module")
def filled_once(
    played_who: tuple[WhoSimulator, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A data folder with an indicator of each dialect."""
    simulator, url = played_who
    simulator.reset()
    simulator.entities |= ROWS
    made = Who(simulator, url, tmp_path_factory.mktemp("who") / "data")
    for indicator in INDICATORS:
        fetch(made.source, indicator)
    return made.folder


@pytest.fixture
def filled(filled_once: Path, who: Who) -> Who:
    """A WHO with an indicator of each dialect, both fetched once."""
    shutil.copytree(filled_once, who.folder)
    who.simulator.entities |= ROWS
    return who


def fetch(source: WhoSource, indicator: Indicator) -> dict[str, str]:
    """Extract and transform; returns what the checks that failed say, by name."""
    source.extract(indicator)
    state = source.transform(indicator)
    return {check.name: check.description for check in state.checks if not check.passed}


def kept(source: WhoSource, indicator: Indicator) -> list[tuple[str, int]]:
    """The releases that are there, with their rows as their files have them."""
    return [
        (release.name, sum(batch.num_rows for batch in source.releases.batches(release)))
        for release in source.releases.releases(indicator.code)
    ]


@BY_DIALECT
@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (WhoFault.CUT_BODY, TransientError, "no usable answer"),
        (WhoFault.CUT_JSON, TransientError, "broken JSON"),
        (WhoFault.HTML, TransientError, "answered with HTML instead of JSON: '<!DOCTYPE html>"),
        (WhoFault.SORRY, TransientError, "answered with HTML instead of JSON"),
        (WhoFault.CSV, TransientError, "answered with text/csv; charset=utf-8 instead of JSON"),
        (WhoFault.BAD_REQUEST, PermanentError, "Could not find a property named"),
        (WhoFault.OVERLOADED, TransientError, "answered 503"),
        (WhoFault.SHORT, TransientError, "counts "),
    ],
)
def test_an_unusable_answer_is_a_typed_failure(
    filled: Who,
    indicator: Indicator,
    fault: WhoFault,
    kind: type[Exception],
    says: str,
) -> None:
    """What is no answer says so with what was found, is transient or not, and the next fetch is as good as ever."""
    before = kept(filled.source, indicator)
    filled.break_with(fault)
    with pytest.raises(RegistryError, match=says.replace("(", r"\(")) as raised:
        filled.source.extract(indicator)
    assert isinstance(raised.value, kind)
    assert kept(filled.source, indicator) == before
    filled.break_with(None)
    assert fetch(filled.source, indicator) == {}
    assert kept(filled.source, indicator) == before


@pytest.mark.parametrize("fault", [WhoFault.REPEATED_LINK, WhoFault.FOREIGN_LINK])
def test_a_next_link_leads_onwards(filled: Who, fault: WhoFault) -> None:
    """A next link that was followed before, or that leads to another server, is an error instead of an endless walk."""
    before = kept(filled.source, INDICATORS[0])
    filled.break_with(fault)
    said = {
        WhoFault.REPEATED_LINK: "a second time",
        WhoFault.FOREIGN_LINK: "leads to another server",
    }
    with pytest.raises(RegistryError, match=said[fault]):
        filled.source.extract(INDICATORS[0])
    assert kept(filled.source, INDICATORS[0]) == before


def test_next_links_are_followed(who: Who) -> None:
    """Should GHO ever give pages, they are put together, and none is asked for twice."""
    who.simulator.entities |= ROWS
    who.simulator.gho_page_size = 100
    assert fetch(who.source, gho("LIFE")) == {}
    assert kept(who.source, gho("LIFE")) == [("2024-08-02", 288)]
    assert len(who.simulator.requests) == len(set(who.simulator.requests)) == 3


def test_pages_without_a_count(who: Who) -> None:
    """Where xMart does not count, the page that is not full is the last."""
    who.simulator.entities |= ROWS
    who.simulator.says_count = False
    assert fetch(who.source, ghe(page_size=96)) == {}
    assert kept(who.source, ghe()) == [("GHE2021", 576)]
    assert len(who.simulator.requests) == 7


@BY_DIALECT
def test_no_rows_are_a_failed_check(
    filled: Who, indicator: Indicator, address: PostgresAddress, rows_of: Ask
) -> None:
    """An old code that finds nothing, with status 200, fails a check; release and table stay as they were."""
    filled.source.load([indicator], address=address)
    counts = "SELECT sum(rows), count(*), bool_and(is_newest) FROM who.releases"
    before, loaded = kept(filled.source, indicator), rows_of(counts)
    filled.break_with(WhoFault.EMPTY)
    assert "The last good data stay" in fetch(filled.source, indicator)["has_rows"]
    filled.source.load([indicator], address=address)
    assert (kept(filled.source, indicator), rows_of(counts)) == (before, loaded)
    # Nobody can accept what is not there.
    assert filled.source.transform(indicator, accept=True).is_held_back


@BY_DIALECT
def test_a_new_column_is_kept_and_told(
    filled: Who, indicator: Indicator, address: PostgresAddress, rows_of: Ask
) -> None:
    """A column that nobody knows makes a release with its values among the extras, and a check says so."""
    filled.break_with(WhoFault.COLUMN_MORE)
    said = fetch(filled.source, indicator)
    assert list(said) == ["no_column_is_new"]
    assert "Uncertainty" in said["no_column_is_new"]
    filled.source.load([indicator], address=address)
    assert rows_of(
        "SELECT release_number, is_newest FROM who.releases ORDER BY release_number"
    ) == [(1, False), (2, True)]
    found = rows_of(
        "SELECT extras ->> 'Uncertainty', count(*) FROM who.observations GROUP BY 1 "
        "UNION ALL SELECT extras ->> 'Uncertainty', count(*) FROM who.global_health_estimates GROUP BY 1 ORDER BY 1"
    )
    rows = len(filled.simulator.entities[indicator.asked_for])
    assert found == [("model", rows), (None, rows)]
    # Once told, it is one of the columns.
    assert fetch(filled.source, indicator) == {}


@BY_DIALECT
def test_a_missing_column_holds_the_release_back(filled: Who, indicator: Indicator) -> None:
    """Without a column that the release before had there is no release, until somebody accepts it."""
    before = kept(filled.source, indicator)
    filled.break_with(WhoFault.COLUMN_LESS)
    gone = "NumericValue" if indicator.code == "LIFE" else "VAL_DALY_COUNT_NUMERIC"
    assert gone in fetch(filled.source, indicator)["no_column_is_missing"]
    assert kept(filled.source, indicator) == before
    assert not filled.source.transform(indicator, accept=True).is_held_back
    assert len(kept(filled.source, indicator)) == len(before) + 1


@BY_DIALECT
def test_rows_that_contradict_each_other_are_set_aside(filled: Who, indicator: Indicator) -> None:
    """Of two rows with one key and two values neither is used: both are kept with the reason, and a check fails."""
    [(_, rows)] = kept(filled.source, indicator)
    filled.break_with(WhoFault.DUPLICATE_KEY)
    assert list(fetch(filled.source, indicator)) == ["no_row_is_set_aside"]
    newest = filled.source.current(indicator.code)
    assert newest is not None
    assert (newest.number, newest.rows, newest.set_aside) == (2, rows - 1, 2)
    assert kept(filled.source, indicator)[-1][1] == rows - 1
    for _, reason in filled.source.releases.set_aside(newest):
        assert reason == "another row has the same key and says something else: neither is used"


@BY_DIALECT
def test_the_same_row_twice_is_there_once(filled: Who, indicator: Indicator) -> None:
    """A row that is sent twice makes no new release, and a check says so."""
    before = kept(filled.source, indicator)
    filled.break_with(WhoFault.SAME_ROW_TWICE)
    assert fetch(filled.source, indicator) == {
        "no_row_is_set_aside": "1 rows were set aside. 1: it is there twice: one is used"
    }
    assert kept(filled.source, indicator) == before


def test_a_code_that_is_not_there(who: Who) -> None:
    """GHO answers 404 with an empty body for a code that it does not know, and the message names it."""
    with pytest.raises(RegistryError, match=r"indicator GONE is not there: .*404.*empty body"):
        who.source.extract(gho("GONE"))


def test_a_filter_that_is_wrong(who: Who) -> None:
    """What OData says of a filter stands in the message."""
    who.simulator.entities |= ROWS
    with pytest.raises(RegistryError, match=r"LIFE was refused: .*Could not find a property named"):
        who.source.extract(gho("LIFE", filter="Nation eq 'FRA'"))


def test_questions_are_spelled_as_who_does(who: Who) -> None:
    """Names of options keep their `$`, and blanks and quotes of a filter are percent-encoded."""
    who.simulator.entities |= ROWS
    who.source.extract(ghe(filter="DIM_SEX_CODE eq 'TOTAL'", page_size=1000))
    [asked] = who.simulator.requests
    path, _, query = asked.partition("?")
    assert path == "/xmart/DEX_CMS/GHE_FULL"
    assert query.split("&") == [
        *("$top=1000", "$skip=0", "$orderby=Sys_PK", "$count=true"),
        "$filter=DIM_SEX_CODE%20eq%20%27TOTAL%27",
    ]


def test_data_that_move_between_two_pages(who: Who) -> None:
    """A count that changes on the way ends the walk; the next begins anew and has all rows once."""
    rows = ghe_rows()
    who.simulator.entities["DEX_CMS/GHE_FULL"] = rows[:-1]

    def publish(code: str, stage: str, done: int, total: int | None) -> None:
        who.simulator.entities["DEX_CMS/GHE_FULL"] = rows

    with pytest.raises(RegistryError, match="its data moved"):
        who.source.extract(ghe(), publish)
    assert fetch(who.source, ghe()) == {}
    assert kept(who.source, ghe()) == [("GHE2021", len(rows))]


def test_a_cause_that_nobody_knows(who: Who) -> None:
    """A title without a code that is none of WHO's causes is set aside with its title."""
    rows = [{**row, "DIM_GHECAUSE_CODE": None} for row in ghe_rows()]
    rows[5] |= {"DIM_GHECAUSE_TITLE": "Melancholy"}
    who.simulator.entities["DEX_CMS/GHE_FULL"] = rows
    said = fetch(who.source, ghe())
    assert (
        "1: it has no code of its cause, and no cause is called 'Melancholy'"
        in (said["no_row_is_set_aside"])
    )


def test_odd_values_stop_nothing(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """A key without end, a number that is none and a row that is no object are set aside; NUL and numbers as text are read."""
    rows: list[Any] = gho_rows("LIFE", years=range(2000, 2022))
    rows[0] |= {"SpatialDim": "X" * 10_000}
    rows[1] |= {"NumericValue": "many"}
    rows[2] |= {"TimeDimensionBegin": "soon"}
    rows[3] |= {"Comments": "a\0b", "NumericValue": "1.50", "Date": None}
    rows[4] = "no row"
    who.simulator.entities["LIFE"] = rows
    said = fetch(who.source, gho("LIFE"))["no_row_is_set_aside"]
    assert said.startswith("4 rows were set aside.")
    for reason in (
        "spatial_code is longer than 200 characters",
        "numeric_value is 'many'",
        "period_begin is 'soon'",
        "it is no JSON object",
    ):
        assert reason in said
    who.source.load([gho("LIFE")], address=address)
    assert rows_of(
        "SELECT comments, numeric_value, updated_at FROM who.observations WHERE comments IS NOT NULL"
    ) == [("a\ufffdb", 1.5, None)]
    assert rows_of("SELECT count(*) FROM who.observations") == [(len(rows) - 4,)]
