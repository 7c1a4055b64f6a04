"""Saved searches: asked once per data version, for ids only, and without harm when they cannot be answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ctg_assets.extract import searches
from ctg_assets.extract.search_file import COVID_19, SavedSearch
from ctg_assets.extract.searches import evaluate_searches, recorded_search, studies_found
from ctg_assets.lake import Lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.results import CheckResult, Listing
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.simulator.in_memory import InMemorySource, numbered_studies, study
from ctg_assets_tests.support.registries import API_URL, client_of

MALARIA = SavedSearch(name="malaria", query="AREA[Condition]malaria", grouping="tropical")
BROKEN = SavedSearch(name="broken", query="AREA[NoSuchField]x")


class Asker:
    """Asks a simulator saved searches, as the plan of a walk does."""

    def __init__(self, client: RegistryClient, lake: Lake, simulator: RunningSimulator) -> None:
        self.client = client
        self.lake = lake
        self.simulator = simulator

    def publish(self, **conditions: str) -> None:
        """Publish a data version of studies with these conditions, by `n<number>`."""
        self.simulator.advance(
            InMemorySource(
                study(int(name[1:]), conditions=[condition])
                for name, condition in conditions.items()
            )
        )

    def ask(self, *asked: SavedSearch) -> CheckResult:
        """Ask at the present data version."""
        now = self.simulator.version.data_timestamp
        return evaluate_searches(self.client, self.lake.storage, asked or [MALARIA], now)

    def found(self, search: SavedSearch = MALARIA) -> dict[str, datetime]:
        """The studies of the last answer, with the data version that each was first found at."""
        record = recorded_search(self.lake.storage, self.client.api_url, search)
        if record is None or record.answer is None:
            return {}
        rows = studies_found(self.lake.storage, record.answer)
        assert record.answer.studies == rows.num_rows
        return dict(zip(rows["nct_id"].to_pylist(), rows["found_at"].to_pylist(), strict=True))

    def requests(self) -> list[str]:
        """What the simulator was asked so far."""
        return [request.path for request in self.simulator.requests]


@pytest.fixture
def asker(client: RegistryClient, lake: Lake, simulator: RunningSimulator) -> Asker:
    """An asker at a registry with three studies, two of them about malaria."""
    asker = Asker(client, lake, simulator)
    asker.publish(n1="Malaria", n2="Dengue", n3="Cerebral Malaria")
    return asker


def listed(check_result: CheckResult) -> list[tuple[str, ...]]:
    """The searches among the facts of a check: name, studies, data version, problem."""
    listing = check_result.facts["searches"]
    assert isinstance(listing, Listing)
    return list(listing.rows)


def test_a_search_finds_what_the_registry_says(asker: Asker) -> None:
    """Its studies are kept with the data version at which they were found."""
    check_result = asker.ask()
    now = asker.simulator.version.data_timestamp
    assert check_result.passed
    assert check_result.description == "studies found by saved searches: malaria: 2"
    assert listed(check_result) == [("malaria", "2", now, "")]
    at = datetime.fromisoformat(now)
    assert asker.found() == {"NCT00000001": at, "NCT00000003": at}


def test_only_ids_are_asked_for_a_thousand_at_a_time(client: RegistryClient, lake: Lake) -> None:
    """The request has the query as it was written, and no filter."""
    seen: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.url.params))
        return httpx.Response(200, json={"studies": []})

    with client_of(API_URL, httpx.MockTransport(answer)) as mocked:
        check_result = evaluate_searches(mocked, lake.storage, [COVID_19], "2026-11-20T09:00:05")
    assert check_result.passed
    assert seen == [
        {"format": "json", "pageSize": "1000", "query.term": COVID_19.query, "fields": "NCTId"}
    ]


def test_the_search_for_covid_19_knows_its_names(asker: Asker) -> None:
    """The simulator understands the expression and finds the disease and the virus by each of their names."""
    asker.publish(
        n1="COVID-19",
        n2="SARS-CoV-2 Infection",
        n3="2019-nCoV",
        n4="Coronavirus Disease 2019",
        n5="Severe Acute Respiratory Syndrome Coronavirus 2",
        n6="Severe Acute Respiratory Syndrome",
        n7="Common Cold, Coronavirus",
        n8="Covid19",
    )
    asker.ask(COVID_19)
    assert [int(nct_id[3:]) for nct_id in asker.found(COVID_19)] == [1, 2, 3, 4, 5, 8]


def test_at_one_data_version_the_registry_is_asked_once(asker: Asker) -> None:
    """Every walk plans, and several may be planned at one data version."""
    asker.ask()
    asked = asker.requests()
    assert asker.ask().passed
    assert asker.requests() == asked
    asker.publish(n1="Malaria")
    asker.ask()
    assert len(asker.requests()) == len(asked) + 1


def test_another_query_under_the_same_name_is_asked_at_once(asker: Asker) -> None:
    """Also at a data version at which the name was asked for something else."""
    asker.ask()
    changed = MALARIA.model_copy(update={"query": "AREA[Condition]dengue"})
    asker.ask(changed)
    assert list(asker.found(changed)) == ["NCT00000002"]


def test_dates_of_first_finding_stay(asker: Asker) -> None:
    """A study keeps its date for as long as it is found; one that comes back is found anew."""
    asker.ask()
    first = datetime.fromisoformat(asker.simulator.version.data_timestamp)
    asker.publish(n1="Malaria", n2="Malaria", n3="Dengue")
    asker.ask()
    second = datetime.fromisoformat(asker.simulator.version.data_timestamp)
    assert asker.found() == {"NCT00000001": first, "NCT00000002": second}
    asker.publish(n1="Malaria", n2="Malaria", n3="Malaria")
    asker.ask()
    third = datetime.fromisoformat(asker.simulator.version.data_timestamp)
    assert asker.found() == {"NCT00000001": first, "NCT00000002": second, "NCT00000003": third}
    record = recorded_search(asker.lake.storage, asker.client.api_url, MALARIA)
    assert record is not None
    assert record.answer is not None
    assert datetime.fromisoformat(record.answer.first_as_of) == first
    assert datetime.fromisoformat(record.answer.as_of) == third


def test_what_a_search_found_in_the_past_is_kept(asker: Asker) -> None:
    """Also of studies that it no longer finds, or finds again; before it was asked it had found nothing."""
    times = []
    for numbers in ((1, 2), (2, 3), (1, 2)):
        asker.publish(**{f"n{number}": "Malaria" for number in numbers})
        asker.ask()
        times.append(datetime.fromisoformat(asker.simulator.version.data_timestamp))
    first, second, third = times
    record = recorded_search(asker.lake.storage, asker.client.api_url, MALARIA)
    assert record is not None
    assert record.answer is not None

    def at(time: datetime) -> list[tuple[int, datetime]]:
        assert record.answer is not None
        rows = studies_found(asker.lake.storage, record.answer, time).to_pylist()
        return [(int(row["nct_id"][3:]), row["found_at"]) for row in rows]

    second_long = timedelta(seconds=1)
    assert at(first - second_long) == []
    assert at(first) == at(second - second_long) == [(1, first), (2, first)]
    assert at(second) == at(third - second_long) == [(2, first), (3, second)]
    assert at(third) == at(third + timedelta(days=9)) == [(1, third), (2, first)]


def test_data_versions_that_go_back_find_nothing_twice(asker: Asker) -> None:
    """Whatever the registry says of its time, each study is there once, now and at any time."""
    says = ["2026-03-01", "2026-04-01", "2026-02-01", "2026-05-01", "2026-03-01"]
    for number, day in enumerate(says):
        asker.publish(**({"n1": "Malaria", "n2": "Malaria"} if number % 2 == 0 else {"n2": "x"}))
        evaluate_searches(asker.client, asker.lake.storage, [MALARIA], f"{day}T09:00:00")
    assert list(asker.found()) == ["NCT00000001", "NCT00000002"]
    record = recorded_search(asker.lake.storage, asker.client.api_url, MALARIA)
    assert record is not None
    assert record.answer is not None
    for month in range(1, 8):
        at = datetime(2026, month, 15)  # noqa: DTZ001 - AACT's times have no zone
        ids = studies_found(asker.lake.storage, record.answer, at)["nct_id"].to_pylist()
        assert len(ids) == len(set(ids))


def test_all_pages_are_read(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search with more studies than a page holds costs a request a page, and one for the data version."""
    monkeypatch.setattr(searches, "_PAGE_SIZE", 4)
    asker.simulator.advance(numbered_studies(10))
    before = len(asker.requests())
    everything = SavedSearch(name="everything", query="ALL")
    asker.ask(everything)
    assert len(asker.found(everything)) == 10
    assert len(asker.requests()) - before == 4


def test_pages_of_two_data_versions_are_no_answer(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the token is refused or the version has moved: what was found last stays."""
    monkeypatch.setattr(searches, "_PAGE_SIZE", 1)
    asker.ask()
    before = asker.found()
    asker.publish(n1="Malaria", n2="Malaria", n3="Malaria")
    stale = "2026-01-01T00:00:00"
    outcome = evaluate_searches(asker.client, asker.lake.storage, [MALARIA], stale)
    assert not outcome.passed
    assert f"the data version moved from {stale}" in outcome.description
    assert asker.found() == before
    assert asker.ask().passed
    assert len(asker.found()) == 3


def test_a_registry_without_an_end_is_left(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that lead on for ever do not keep a walk from being planned."""
    monkeypatch.setattr(searches, "_MOST_PAGES", 3)

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"studies": [], "nextPageToken": "again"})

    with client_of(API_URL, httpx.MockTransport(answer)) as endless:
        check_result = evaluate_searches(endless, lake.storage, [MALARIA], "2026-11-20T09:00:05")
    assert "more than 3 pages" in check_result.description


def test_a_bad_expression_is_told_and_the_others_go_on(asker: Asker) -> None:
    """The registry's own words are kept; at the same data version it is not asked again."""
    check_result = asker.ask(BROKEN, MALARIA)
    assert (check_result.passed, check_result.blocking) == (False, False)
    assert (
        "1 of 2 saved searches have no answer of now, and keep their last: 'broken'"
        in check_result.description
    )
    assert "400 Bad Request" in check_result.description
    assert "Unknown area name: `NoSuchField`" in check_result.description
    assert len(asker.found()) == 2
    asked = asker.requests()
    assert asker.ask(BROKEN, MALARIA) == check_result
    assert asker.requests() == asked


def test_what_was_found_last_stays_when_the_registry_fails(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits long for a registry that is down; no more is asked of it, and the next plan tries again."""
    monkeypatch.setattr(searches, "_PATIENCE_SECONDS", 0.0)
    asker.ask()
    before = asker.found()
    asker.publish(n2="Malaria")
    asker.simulator.set_faults("every=1@studies:503x*")
    asked = len(asker.requests())
    second = SavedSearch(name="dengue", query="dengue")
    check_result = asker.ask(MALARIA, second)
    assert not check_result.passed
    assert [bool(problem) for *_, problem in listed(check_result)] == [True, True]
    assert "503" in check_result.description
    assert len(asker.requests()) == asked + 1
    assert asker.found() == before
    asker.simulator.set_faults()
    assert asker.ask(MALARIA, second).passed
    assert list(asker.found()) == ["NCT00000002"]


def test_a_search_of_no_studies_is_answered(asker: Asker) -> None:
    """Nothing found is an answer, too."""
    nothing = SavedSearch(name="nothing", query="nosuchword")
    assert asker.ask(nothing).passed
    record = recorded_search(asker.lake.storage, asker.client.api_url, nothing)
    assert record is not None
    assert record.answer is not None
    assert asker.found(nothing) == {}


def test_without_searches_nothing_is_asked(client: RegistryClient, lake: Lake) -> None:
    """Who names none has none."""
    check_result = evaluate_searches(client, lake.storage, [], "2026-11-20T09:00:05")
    assert (check_result.passed, check_result.description) == (True, "no saved searches")


def test_older_answers_are_removed(asker: Asker) -> None:
    """The answer and the one before it are kept, which somebody may be reading; the lake does not grow."""
    for numbers in ((1,), (1, 2), (1, 2, 3), (2, 3)):
        asker.publish(**{f"n{number}": "Malaria" for number in numbers})
        asker.ask(MALARIA, COVID_19)
    files = asker.lake.storage.names("searches")
    assert len([name for name in files if name.endswith(".json")]) == 2
    assert len([name for name in files if name.endswith(".parquet")]) == 3


def _cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


@pytest.mark.parametrize("damage", [_cut_off, Path.unlink])
@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_damaged_answer_is_asked_for_again(
    asker: Asker, kind: str, damage: Callable[[Path], None]
) -> None:
    """At the next data version at the latest; the studies count as found then if their dates are lost."""
    asker.ask()
    folder = Path(asker.lake.storage.path("searches"))
    (file,) = folder.glob(f"*.{kind}")
    damage(file)
    asker.publish(n1="Malaria", n3="Malaria")
    assert asker.ask().passed
    assert list(asker.found()) == ["NCT00000001", "NCT00000003"]


def test_a_file_that_is_gone_is_asked_for_at_the_same_data_version(asker: Asker) -> None:
    """What a repair set aside comes back with the next plan."""
    asker.ask()
    (file,) = Path(asker.lake.storage.path("searches")).glob("*.parquet")
    file.unlink()
    assert asker.found() == {}
    assert asker.ask().passed
    assert len(asker.found()) == 2


def test_registries_have_answers_of_their_own(asker: Asker) -> None:
    """What another registry found is not shown as this one's."""
    asker.ask()
    assert recorded_search(asker.lake.storage, API_URL, MALARIA) is None
