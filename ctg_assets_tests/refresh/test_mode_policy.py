"""Which extraction is due, in tables: what the history holds, what the registry says, what is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.refresh.mode_policy import Choice, choose, choose_again
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import Settings, load_settings
from ctg_assets.times import parse_data_timestamp

FULL, SCOPED, INCREMENTAL, CENSUS, PICKED, IMPORT = ExtractionMode
API = "http://registry.test/api/v2"
MONDAY = datetime(2026, 11, 2, 9, 0, 5, tzinfo=UTC)


def _data(day: int) -> str:
    """The data timestamp of a day: 0 is a Monday."""
    # Some seconds earlier each day: a walk after seven days is not a walk after six.
    moment = MONDAY + timedelta(days=day, seconds=-day)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


@cache
def _settings(mode: RefreshMode = RefreshMode.AUTO, **changes: object) -> Settings:
    return load_settings(**{"api_url": API, "query": "", "refresh_mode": mode, **changes})


@dataclass(frozen=True)
class Seen:
    """An extraction that the history has, in short."""

    mode: ExtractionMode
    day: int
    complete: bool = True
    stale: int = 0
    source: str = API
    query: str = ""


def _entries(seen: Sequence[Seen]) -> list[HistoryEntry]:
    return [
        HistoryEntry(
            sequence=sequence,
            extraction_id=f"extraction {sequence}",
            mode=each.mode,
            source="/downloads/studies.json" if each.mode is IMPORT else each.source,
            query=each.query,
            data_timestamp=_data(each.day),
            observed_at=parse_data_timestamp(_data(each.day)),
            recorded_at=MONDAY,
            complete=each.complete and each.mode.covers_scope,
            studies=10,
            changes={},
            silent=0,
            first_change_seq=1,
            next_change_seq=1,
            revision=1,
            stale=each.stale,
        )
        for sequence, each in enumerate(seen, start=1)
    ]


def _chosen(settings: Settings, seen: Sequence[Seen], day: int) -> ExtractionMode | None:
    choice = choose(settings, _entries(seen), _data(day))
    return None if choice is None else choice.mode


@dataclass(frozen=True)
class Case:
    """What is chosen on a day after these extractions."""

    seen: Sequence[Seen]
    day: int
    chosen: ExtractionMode | None
    why: str = ""


MONDAYS_WALK = Seen(FULL, 0)


@pytest.mark.parametrize(
    "case",
    [
        Case([], 0, FULL, "no walk over every study"),
        Case([MONDAYS_WALK], 0, None),
        # The next day: first what was posted, then the census, then what that found wanting.
        Case([MONDAYS_WALK], 1, INCREMENTAL, "data moved"),
        Case([MONDAYS_WALK, Seen(INCREMENTAL, 1)], 1, CENSUS, "removals and missed updates"),
        Case([MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1)], 1, None),
        Case(
            [MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3)],
            1,
            PICKED,
            "found 3 studies missing or outdated",
        ),
        Case([MONDAYS_WALK, Seen(CENSUS, 1, stale=3), Seen(PICKED, 1)], 1, INCREMENTAL),
        Case(
            [MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3), Seen(PICKED, 1)],
            1,
            None,
        ),
        # A census that nobody followed up yet, when the data moved on.
        Case([MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3)], 2, PICKED),
        Case(
            [MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3), Seen(INCREMENTAL, 2)],
            2,
            PICKED,
        ),
        # Studies fetched by id do not make up for what else was posted.
        Case(
            [MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3), Seen(PICKED, 2)],
            2,
            INCREMENTAL,
        ),
        # After a week of data everything is walked, and what was wanted comes with it.
        Case([MONDAYS_WALK, Seen(CENSUS, 6)], 6, INCREMENTAL),
        Case([MONDAYS_WALK, Seen(INCREMENTAL, 6), Seen(CENSUS, 6)], 7, FULL, "is 7 days old"),
        Case([MONDAYS_WALK, Seen(CENSUS, 6, stale=3)], 7, FULL),
        Case([MONDAYS_WALK, Seen(FULL, 7)], 7, None),
        Case([MONDAYS_WALK], 40, FULL, "is 40 days old"),
        # A walk that the registry's count contradicts decides no removals, so another one is due, but
        # not at the same data version.
        Case([Seen(FULL, 0, complete=False)], 0, None),
        Case([Seen(FULL, 0, complete=False)], 1, FULL, "as many studies as the registry counted"),
        Case([MONDAYS_WALK, Seen(FULL, 1, complete=False)], 1, None),
        Case([MONDAYS_WALK, Seen(FULL, 1, complete=False)], 2, INCREMENTAL),
        Case([MONDAYS_WALK, Seen(FULL, 7, complete=False)], 8, FULL),
        # The registry went back in time.
        Case([MONDAYS_WALK, Seen(INCREMENTAL, 3), Seen(CENSUS, 3)], 2, INCREMENTAL),
        # Other scopes, also ones that were left and come back.
        Case([Seen(SCOPED, 0, query="Asthma")], 0, FULL, "no walk over every study"),
        Case([Seen(FULL, 0, source="http://other.test/api/v2")], 0, FULL),
        Case([MONDAYS_WALK, Seen(SCOPED, 0, query="Asthma")], 0, FULL),
        Case([Seen(SCOPED, 0, query="Asthma"), Seen(CENSUS, 0)], 0, FULL),
        # Imports: of today's data they are overtaken by a walk, older ones only slot in.
        Case([Seen(IMPORT, 0)], 0, FULL),
        Case([MONDAYS_WALK, Seen(IMPORT, 0)], 0, FULL, "a file was brought in"),
        Case([Seen(IMPORT, 0), MONDAYS_WALK], 0, None),
        Case([MONDAYS_WALK, Seen(IMPORT, -30)], 0, None),
        Case([MONDAYS_WALK, Seen(IMPORT, -30)], 1, INCREMENTAL),
    ],
    ids=lambda case: (
        f"{' '.join(f'{each.mode}@{each.day}' for each in case.seen)} on {case.day}: {case.chosen}"
    ),
)
def test_what_is_chosen(case: Case) -> None:
    """By the default policy modes take turns, and the reason names the fact that decided."""
    choice = choose(_settings(), _entries(case.seen), _data(case.day))
    assert (choice and choice.mode) == case.chosen
    assert case.why in str(choice)


@pytest.mark.parametrize(
    ("mode", "seen", "day", "chosen"),
    [
        (RefreshMode.FULL, [MONDAYS_WALK], 0, None),
        (RefreshMode.FULL, [MONDAYS_WALK], 1, FULL),
        (
            RefreshMode.FULL,
            [MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1, stale=3)],
            1,
            FULL,
        ),
        (RefreshMode.FULL, [MONDAYS_WALK, Seen(IMPORT, 0)], 0, FULL),
        (RefreshMode.INCREMENTAL, [], 0, FULL),
        (RefreshMode.INCREMENTAL, [MONDAYS_WALK], 0, None),
        (RefreshMode.INCREMENTAL, [MONDAYS_WALK], 40, INCREMENTAL),
        (RefreshMode.INCREMENTAL, [MONDAYS_WALK, Seen(INCREMENTAL, 1)], 1, None),
        (RefreshMode.INCREMENTAL, [MONDAYS_WALK, Seen(CENSUS, 1, stale=3)], 1, PICKED),
        (RefreshMode.CENSUS, [], 0, FULL),
        (RefreshMode.CENSUS, [MONDAYS_WALK], 0, None),
        (RefreshMode.CENSUS, [MONDAYS_WALK], 40, CENSUS),
        (RefreshMode.CENSUS, [MONDAYS_WALK, Seen(INCREMENTAL, 1)], 1, CENSUS),
        (RefreshMode.CENSUS, [MONDAYS_WALK, Seen(CENSUS, 1, stale=3)], 1, PICKED),
        (RefreshMode.CENSUS, [MONDAYS_WALK, Seen(CENSUS, 1, stale=3), Seen(PICKED, 1)], 1, None),
    ],
)
def test_a_mode_that_is_set_is_chosen_always(
    mode: RefreshMode, seen: Sequence[Seen], day: int, chosen: ExtractionMode | None
) -> None:
    """It is chosen whenever it could see something new; what a census misses is fetched all the same."""
    assert _chosen(_settings(mode), seen, day) == chosen


def test_a_query_is_walked_as_a_scope() -> None:
    """With a query everything means everything that it matches, and its history counts."""
    settings = _settings(query="Asthma")
    assert _chosen(settings, [MONDAYS_WALK], 0) is SCOPED
    seen = [MONDAYS_WALK, Seen(SCOPED, 0, query="Asthma")]
    assert _chosen(settings, seen, 0) is None
    assert _chosen(settings, seen, 1) is INCREMENTAL
    assert _chosen(settings, seen, 7) is SCOPED


def test_intervals_are_settings() -> None:
    """How often everything is walked and counted is for the owner to say."""
    settings = _settings(full_every_days=30, census_every_days=3)
    seen = [MONDAYS_WALK, Seen(INCREMENTAL, 2)]
    assert _chosen(settings, seen, 2) is None
    assert _chosen(settings, [*seen, Seen(INCREMENTAL, 3)], 3) is CENSUS
    assert _chosen(settings, [*seen, Seen(CENSUS, 29), Seen(INCREMENTAL, 29)], 29) is None
    assert _chosen(settings, [*seen, Seen(CENSUS, 29), Seen(INCREMENTAL, 30)], 30) is FULL


@pytest.mark.parametrize(
    ("seen", "day", "overlap", "since"),
    [
        ([MONDAYS_WALK], 1, 3, date(2026, 10, 30)),
        ([MONDAYS_WALK], 5, 0, date(2026, 11, 2)),
        ([MONDAYS_WALK, Seen(INCREMENTAL, 4)], 5, 1, date(2026, 11, 5)),
        # Neither a census nor single studies tell what was posted.
        ([MONDAYS_WALK, Seen(CENSUS, 4, stale=3), Seen(PICKED, 4)], 5, 1, date(2026, 11, 1)),
        # A registry that went back may have posted since then what it had not posted before.
        ([MONDAYS_WALK, Seen(INCREMENTAL, 4)], 2, 1, date(2026, 11, 3)),
    ],
)
def test_an_incremental_walk_overlaps_the_one_before(
    seen: Sequence[Seen], day: int, overlap: int, since: date
) -> None:
    """It asks from some days before the last data version whose posted studies were asked for."""
    choice = choose(_settings(incremental_overlap_days=overlap), _entries(seen), _data(day))
    assert choice is not None
    assert (choice.mode, choice.since) == (INCREMENTAL, since)


def test_picked_studies_are_those_of_the_last_census() -> None:
    """The choice says in which entry of the history they are listed."""
    seen = [MONDAYS_WALK, Seen(CENSUS, 1, stale=3), Seen(PICKED, 1), Seen(CENSUS, 2, stale=1)]
    choice = choose(_settings(), _entries(seen), _data(2))
    assert choice is not None
    assert (choice.mode, choice.ids_from) == (PICKED, 4)


@pytest.mark.parametrize("mode", [RefreshMode.AUTO, RefreshMode.CENSUS])
@pytest.mark.parametrize(
    ("page_size", "wanted", "chosen"),
    [
        (1000, 150_250, PICKED),
        (1000, 150_251, FULL),
        # Where pages are small, as many ids go into a request as studies onto a page.
        (100, 600_000, PICKED),
    ],
)
def test_a_walk_is_chosen_where_it_is_shorter(
    mode: RefreshMode, page_size: int, wanted: int, chosen: ExtractionMode
) -> None:
    """When a census finds a quarter of 600,000 studies wanting, everything takes no more requests."""
    entries = _entries([MONDAYS_WALK, Seen(CENSUS, 1, stale=wanted)])
    entries = [msgspec.structs.replace(entry, studies=600_000) for entry in entries]
    choice = choose(_settings(mode, page_size=page_size), entries, _data(1))
    assert choice is not None
    assert choice.mode is chosen
    assert f"found {wanted} studies" in choice.reason


@pytest.mark.parametrize(
    ("mode", "chosen"),
    [
        (RefreshMode.AUTO, FULL),
        (RefreshMode.FULL, FULL),
        (RefreshMode.INCREMENTAL, INCREMENTAL),
        (RefreshMode.CENSUS, CENSUS),
    ],
)
def test_asking_again_is_answered_though_nothing_is_due(
    mode: RefreshMode, chosen: ExtractionMode
) -> None:
    """Then everything is walked, or what the settings say; but what is due comes first."""
    settings = _settings(mode)
    entries = _entries([MONDAYS_WALK, Seen(INCREMENTAL, 1), Seen(CENSUS, 1), Seen(FULL, 1)])
    assert choose(settings, entries, _data(1)) is None
    asked = choose_again(settings, entries, _data(1))
    assert (asked.mode, "asked for" in asked.reason) == (chosen, True)
    if chosen is INCREMENTAL:
        assert asked.since == date(2026, 10, 31)
    assert choose_again(settings, entries, _data(2)) == choose(settings, entries, _data(2))


def _follow(settings: Settings, day: int, seen: list[Seen], wanted: Iterator[int]) -> list[Choice]:
    """Do what is chosen until nothing is due at this data version."""
    done: list[Choice] = []
    while (choice := choose(settings, _entries(seen), _data(day))) is not None:
        assert len(done) < 5, done
        done.append(choice)
        missing = next(wanted) if choice.mode is CENSUS else 0
        seen.append(Seen(choice.mode, day, stale=missing, query=settings.query))
    return done


@given(
    st.sampled_from(RefreshMode),
    st.sampled_from(["", "Asthma"]),
    st.lists(st.integers(0, 10), max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_every_data_version_comes_to_rest(
    mode: RefreshMode, query: str, pauses: list[int], missing: list[bool]
) -> None:
    """Whatever the pauses between data versions, each is done after a few extractions.

    By default each is seen posted-since or whole, nothing wanted is left, and no whole walk or census
    is older than the settings say.
    """
    settings = _settings(mode, query=query)
    seen: list[Seen] = []
    found = _endless(missing)
    day = 0
    for pause in pauses:
        day += pause
        done = [choice.mode for choice in _follow(settings, day, seen, found)]
        assert bool(done) == (pause > 0 or len(seen) == len(done))
        if mode is RefreshMode.AUTO:
            wholes = [each.day for each in seen if each.mode.is_whole]
            covering = [each.day for each in seen if each.mode.covers_scope]
            assert day - wholes[-1] < settings.full_every_days
            assert day - covering[-1] < settings.census_every_days
            assert seen[-1].stale == 0


def _endless(missing: Sequence[bool]) -> Iterator[int]:
    """How many studies each census finds missing."""
    yield from map(int, missing)
    while True:
        yield 0


# What a registry may say of its data: days in a row, steps back and forth, and times that cannot be.
_ODD_TIMES = ("0204-05-31T09:00:05", "1970-01-01T00:00:00", "1999-08-31T23:59:59")
_FAR_TIMES = ("2027-11-02T09:00:05", "2096-01-01T00:00:00", "9999-12-30T23:59:59")
_timestamps = (
    st.integers(-3, 40).map(_data) | st.sampled_from(_ODD_TIMES) | st.sampled_from(_FAR_TIMES)
)


@given(
    said=st.lists(_timestamps | st.integers(0, 20).map(_data), min_size=1, max_size=25),
    believed=st.lists(st.booleans(), min_size=25, max_size=25),
    clock=st.lists(st.integers(-36_500, 36_500), min_size=25, max_size=25),
    full_every=st.integers(1, 8),
    census_every=st.integers(1, 3),
)
def test_no_walk_is_starved_by_what_a_registry_says(
    said: list[str],
    believed: list[bool],
    clock: list[int],
    full_every: int,
    census_every: int,
) -> None:
    """Each data version comes to rest, and after as many changes of day as are set it is walked.

    The space: up to 25 data versions, each an ordinary day, or one of the years 204 to 9999; our own
    clock anywhere within a century of the truth at each; and each version taken at its word, as by
    earlier releases, or not.
    """
    settings = _settings(full_every_days=full_every, census_every_days=census_every)
    seen: list[HistoryEntry] = []
    days_without = {FULL: 0, CENSUS: 0}
    former = said[0]
    for version, trusted, days in zip(said, believed, clock, strict=False):
        moved = version[:10] != former[:10]
        former = version
        days_without = {mode: without + moved for mode, without in days_without.items()}
        modes: list[ExtractionMode] = []
        while (choice := choose(settings, seen, version)) is not None:
            assert len(modes) < 4, modes
            modes.append(choice.mode)
            by_our_clock = MONDAY + timedelta(days=days)
            at = parse_data_timestamp(version) if trusted else by_our_clock
            if seen:
                at = max(at, seen[-1].observed_at + timedelta(milliseconds=1))
            (entry,) = _entries([Seen(choice.mode, 0)])
            sequence = len(seen) + 1
            seen.append(
                msgspec.structs.replace(
                    entry, sequence=sequence, data_timestamp=version, observed_at=at
                )
            )
            if choice.since is not None:
                assert choice.since >= date(1999, 8, 1)
        if FULL in modes:
            days_without = dict.fromkeys(days_without, 0)
        if CENSUS in modes:
            days_without[CENSUS] = 0
        # What was walked as it is said to be now need not be walked again before it moves.
        walked = {each.mode: each.data_timestamp for each in seen}
        assert days_without[FULL] < full_every or walked[FULL] == version
        assert days_without[CENSUS] < census_every or version in (
            walked[FULL],
            walked.get(CENSUS),
        )


@pytest.mark.parametrize("lie", [*_ODD_TIMES, *_FAR_TIMES])
def test_a_lie_that_an_earlier_release_believed_is_got_over(lie: str) -> None:
    """After a whole walk of 2096 in the history, the next one is due after seven days, a census at once."""
    believed = msgspec.structs.replace(
        _entries([MONDAYS_WALK])[0], data_timestamp=lie, observed_at=parse_data_timestamp(lie)
    )
    seen = [believed]
    chosen: dict[int, list[ExtractionMode]] = {}
    for day in range(1, 9):
        chosen[day] = []
        while (choice := choose(_settings(), seen, _data(day))) is not None:
            chosen[day].append(choice.mode)
            (entry,) = _entries([Seen(choice.mode, day)])
            at = max(entry.observed_at, seen[-1].observed_at + timedelta(milliseconds=1))
            entry = msgspec.structs.replace(entry, sequence=len(seen) + 1, observed_at=at)
            seen.append(entry)
    if parse_data_timestamp(lie) > MONDAY:
        assert chosen.pop(7) == [FULL]
    else:
        assert chosen.pop(1) == [FULL]  # by all that is known, it is long ago
        assert chosen.pop(8) == [FULL]
    assert set(map(tuple, chosen.values())) == {(INCREMENTAL, CENSUS)}
