"""How a walk is divided: slices that have no study in common and miss none, and the numbers of their pages."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.extract.slices import chains_needed, page_numbers, slice_filters
from ctg_assets.registry.client import PageRequest
from ctg_assets.simulator.essie import parse
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.simulator.in_memory import study

NEWEST = date(2026, 3, 2)


def _posted(day: str | None) -> dict[str, Any]:
    """A study that was last posted on a day; None for one that does not say."""
    record = study(1, posted=day or "")
    if day is None:
        del record["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"]
    return record


@settings(max_examples=60)
@given(
    number=st.integers(2, 16),
    newest=st.sampled_from([NEWEST, date.min, date(1999, 9, 1), date(2000, 2, 29), date.max]),
    day=st.none()
    | st.dates()
    | st.integers(-2, 40).map(lambda back: NEWEST - timedelta(days=back)),
)
def test_every_study_is_in_one_slice(number: int, newest: date, day: date | None) -> None:
    """Whatever its day is, or if it has none, and whatever the registry says of its data."""
    filters = slice_filters(number, newest)
    assert len(filters) == number
    record = _posted(None if day is None else day.isoformat())
    assert sum(parse(within, "BasicSearch").matches(record) for within in filters) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 6, 16])
def test_slices_are_of_about_one_size(number: int) -> None:
    """Of studies posted as the registry's are, each slice has its share, give or take four tenths."""
    source = GeneratedSource(2000, 7)
    slices = [parse(within, "BasicSearch") for within in slice_filters(number, NEWEST)]
    days = [_posted(source.last_update_post_date(index)) for index in range(len(source))]
    sizes = [sum(map(one.matches, days)) for one in slices]
    share = len(source) / number
    assert sum(sizes) == len(source)
    assert 0.6 * share < min(sizes) <= max(sizes) < 1.4 * share


@pytest.mark.parametrize("number", [2, 16])
def test_a_slice_fits_into_a_url(number: int) -> None:
    """Request lines of more than 8 kB are refused in places, so a filter travels in less than a quarter of that."""
    for within in slice_filters(number, NEWEST):
        request = PageRequest("", 1000, within=within)
        assert len(request.parameters()["filter.advanced"]) < 1000  # each sign may travel as two


def test_a_slice_is_cut_out_of_what_was_posted_lately() -> None:
    """Both restrictions hold: neither loses its meaning beside the other's OR."""
    parameters = PageRequest(
        "",
        10,
        posted_since=date(2026, 1, 1),
        within="AREA[NCTId]NCT00000001 OR AREA[NCTId]NCT00000002",
    ).parameters()
    both = parse(parameters["filter.advanced"], "BasicSearch")
    assert both.matches(_posted("2026-01-02"))
    assert not both.matches(_posted("2025-12-31"))
    assert not both.matches(study(3, posted="2026-01-02"))


@pytest.mark.parametrize(
    ("lengths", "numbers"),
    [
        ([], []),
        ([3], [[1, 2, 3]]),
        ([3, 1, 2], [[1, 4, 6], [2], [3, 5]]),
        ([1, 2], [[1], [2, 3]]),
    ],
)
def test_pages_are_numbered_in_turns(lengths: list[int], numbers: list[list[int]]) -> None:
    """Chains share all numbers without a gap, and the first numbers are of all chains."""
    assert page_numbers(lengths) == numbers


@pytest.mark.parametrize(
    ("seconds", "requests_per_minute", "pages", "chains"),
    [
        (1.0, 50, 600, 1),  # 60 answers a minute one after the other
        (1.2, 50, 600, 1),
        (1.3, 50, 600, 2),
        (5.0, 50, 600, 7),  # 4.2 at a time, and half as many again
        (0.5, 500, 600, 7),
        (5.0, 50, 60, 7),
        (5.0, 50, 11, 2),  # four pages each at least
        (5.0, 50, 1, 1),
        (60.0, 50, 600, 16),
        (0.0, 10_000, 600, 1),
    ],
)
def test_as_many_chains_as_reach_the_limit(
    seconds: float, requests_per_minute: int, pages: int, chains: int
) -> None:
    """One where that is enough, and never more than the pages are worth."""
    assert chains_needed(seconds, requests_per_minute, pages) == chains
