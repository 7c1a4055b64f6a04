"""Filters: which events pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.feed.config import FilterSettings
from ctg_assets.feed.events import ChangeEvent, TypedEvent
from ctg_assets.feed.filters import Filter
from ctg_assets_tests.feed.helpers import event

STUDY = event(
    1,
    kind="update",
    typed_events=(TypedEvent(event_type="site_opened"), TypedEvent(event_type="site_closed")),
    conditions=("Uveal  Melanoma", "Straße (a.b)"),
    condition_terms=("Melanoma", "Neoplasms"),
    sponsors=("National Cancer Institute (NCI)", "Helper"),
    countries=("Germany", "Côte d'Ivoire"),
)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"conditions": ("melanoma",)}, True),
        ({"conditions": ("uveal melanoma",)}, True),
        ({"conditions": ("NEOPLASMS",)}, True),
        ({"conditions": ("mela",)}, False),
        ({"conditions": ("*mela*",)}, True),
        ({"conditions": ("strasse (a.b)",)}, True),
        ({"conditions": ("strasse (axb)",)}, False),
        ({"conditions": ("u*noma",)}, True),
        ({"conditions": ("*",)}, True),
        ({"sponsors": ("nobody", "helper")}, True),
        ({"sponsors": ("national cancer*",)}, True),
        ({"countries": ("france",)}, False),
        ({"countries": ("CÔTE D'IVOIRE",)}, True),
        ({"events": ("update",)}, True),
        ({"events": ("site_closed",)}, True),
        ({"events": ("insert", "results_posted")}, False),
        ({"events": ("site_*",)}, True),
        ({"nct_ids": ("nct00000001",)}, True),
        ({"nct_ids": ("NCT00000002",)}, False),
        ({"countries": ("germany",), "sponsors": ("helper",), "events": ("update",)}, True),
        ({"countries": ("germany",), "sponsors": ("nobody",)}, False),
        ({"countries": ("france",), "nct_ids": ("NCT00000001",)}, False),
    ],
)
def test_filters(filters: dict[str, tuple[str, ...]], passes: bool) -> None:
    """Any value of a filter, all filters; whole texts but for `*`; case and width do not matter."""
    assert Filter(FilterSettings(**filters)).passes(STUDY) is passes


def test_a_study_without_what_is_asked_for_does_not_pass() -> None:
    """No countries are not any country."""
    assert not Filter(FilterSettings(countries=("*",))).passes(event(1))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=1)
NAMES = TEXTS.filter(lambda text: bool(text.strip()))
LISTS = st.lists(NAMES, max_size=4).map(tuple)


def about(*, conditions: tuple[str, ...], countries: tuple[str, ...]) -> ChangeEvent:
    """An event of a study with these."""
    return event(1, conditions=conditions, countries=countries)


def same(one: str, other: str) -> bool:
    """Whether two texts are the same but for case and white space."""
    return one.casefold().split() == other.casefold().split()


@given(conditions=LISTS, countries=LISTS, wanted=LISTS, places=LISTS)
def test_filters_are_any_within_and_all_together(
    conditions: tuple[str, ...],
    countries: tuple[str, ...],
    wanted: tuple[str, ...],
    places: tuple[str, ...],
) -> None:
    """For any texts: what a filter lets through is what its definition says."""
    settings = FilterSettings(conditions=wanted, countries=places)
    expected = all(
        not asked or any(same(one, other) for one in asked for other in there)
        for asked, there in ((wanted, conditions), (places, countries))
    )
    found = Filter(settings).passes(about(conditions=conditions, countries=countries))
    assert found is expected


@given(conditions=LISTS.filter(bool), data=st.data())
def test_a_text_finds_itself(conditions: tuple[str, ...], data: st.DataObject) -> None:
    """Any condition of a study, or a piece of it between stars, is found as it is written."""
    one = data.draw(st.sampled_from(conditions))
    words = one.casefold().split()
    word = data.draw(st.sampled_from(words))
    study = about(conditions=conditions, countries=())
    assert Filter(FilterSettings(conditions=(one,))).passes(study)
    assert Filter(FilterSettings(conditions=(f"*{word}*",))).passes(study)
