"""Fault plans: their syntax, and which request meets which fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator.faults import (
    ENDPOINTS,
    FAULT_SYNTAX,
    Fault,
    FaultKind,
    FaultPlan,
    FaultSyntaxError,
    When,
    parse_faults,
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("page=3:500", Fault(FaultKind.STATUS, When.PAGE, 3, status=500, times=1)),
        (
            "page=3:503=2x4",
            Fault(FaultKind.STATUS, When.PAGE, 3, status=503, seconds=2, times=4),
        ),
        ("every=7:reset", Fault(FaultKind.RESET, When.EVERY, 7)),
        ("every=7:resetx2", Fault(FaultKind.RESET, When.EVERY, 7, times=2)),
        ("request=2:reset-bodyx*", Fault(FaultKind.RESET_BODY, When.REQUEST, 2)),
        (
            "request=1@version:403",
            Fault(FaultKind.STATUS, When.REQUEST, 1, endpoint="version", status=403, times=1),
        ),
        ("chance=0.02:truncate", Fault(FaultKind.TRUNCATE, When.CHANCE, 0.02)),
        ("page=1:html", Fault(FaultKind.HTML, When.PAGE, 1, status=200, times=1)),
        ("page=1:html-502", Fault(FaultKind.HTML, When.PAGE, 1, status=502, times=1)),
        ("page=1:timeout", Fault(FaultKind.TIMEOUT, When.PAGE, 1, seconds=3600, times=1)),
        ("page=1:timeout=0.5", Fault(FaultKind.TIMEOUT, When.PAGE, 1, seconds=0.5, times=1)),
    ],
)
def test_syntax(text: str, fault: Fault) -> None:
    """A text describes exactly one fault; page and request faults strike once unless told."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.STATUS])
def test_every_kind_can_be_written_and_is_documented(kind: FaultKind) -> None:
    """Each kind of fault has a text, which the help explains."""
    assert Fault.parse(f"page=1:{kind}").kind is kind
    assert f" {kind} " in FAULT_SYNTAX.replace(",", " ")


def test_documented_examples_are_faults() -> None:
    """The examples in the help can be used as they stand."""
    examples = FAULT_SYNTAX.partition("Examples:")[2].split()
    assert len(parse_faults(examples)) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not WHEN"),
        ("page=3", "is not WHEN"),
        ("page=x:500", "is not WHEN"),
        ("sometimes=3:500", "WHEN is one of page, request, every, chance"),
        ("page=1.2.3:500", "WHEN is one of"),
        ("page=0:500", "whole number from 1"),
        ("every=1.5:500", "whole number from 1"),
        ("chance=2:500", "between 0 and 1"),
        ("page=1:200", "400 to 599"),
        ("page=1:explode", "KIND is a status from 400 to 599 or one of html, reset"),
        ("page=1:status", "only html takes a status"),
        ("page=1:reset-503", "only html takes a status"),
        ("page=1@nowhere:500", "the endpoints are studies"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(text: str, message: str) -> None:
    """A text that is no fault is refused by a message that says what is expected."""
    with pytest.raises(FaultSyntaxError, match=message):
        Fault.parse(text)


@given(st.text(alphabet="pagevrychnqust=@:.-x*0123", max_size=30))
def test_any_text_is_a_fault_or_refused(text: str) -> None:
    """Whatever the text, there is a fault or a FaultSyntaxError."""
    try:
        fault = Fault.parse(text)
    except FaultSyntaxError:
        return
    assert str(fault)


def strikes(
    text: str, pages: list[int | None], endpoint: str = "studies", seed: int = 0
) -> list[int]:
    """The requests, from 1, that a plan of one fault strikes, given each request's page."""
    plan = FaultPlan(parse_faults([text]), seed)
    return [
        number
        for number, page in enumerate(pages, start=1)
        if plan.next_fault(endpoint, page) is not None
    ]


def test_page_faults_strike_the_page_so_many_times() -> None:
    """A page fault waits for its page, strikes as often as told and then lets it pass."""
    assert strikes("page=2:500", [1, 2, 2, 2, 3]) == [2]
    assert strikes("page=2:500x2", [1, 2, 2, 2, 3]) == [2, 3]
    assert strikes("page=2:500x*", [None, 2, 2, 2, 3]) == [2, 3, 4]


def test_request_and_period_faults_count_requests() -> None:
    """Numbers and periods count all requests, from 1."""
    assert strikes("request=3:500", [None] * 9) == [3]
    assert strikes("every=3:500", [None] * 9) == [3, 6, 9]
    assert strikes("every=3:500x2", [None] * 9) == [3, 6]


def test_endpoint_faults_count_their_own_requests() -> None:
    """A fault of one endpoint neither counts nor strikes requests of another."""
    plan = FaultPlan(parse_faults(["request=2@version:500"]), 0)
    endpoints = ("version", "studies", "studies", "version", "version")
    assert [plan.next_fault(endpoint, None) is not None for endpoint in endpoints] == [
        *(False, False, False, True, False),
    ]


@given(st.integers(0, 1000))
def test_chance_repeats_for_a_seed(seed: int) -> None:
    """The same seed strikes the same requests, whatever other faults the plan has."""
    chance = "chance=0.3:500"
    struck = strikes(chance, [None] * 50, seed=seed)
    assert struck == strikes(chance, [None] * 50, seed=seed)
    plan = FaultPlan(parse_faults(["request=2:403", "chance=0.3:500"]), seed)
    kinds = [plan.next_fault("studies", None) for _ in range(50)]
    assert [at for at, fault in enumerate(kinds, 1) if fault and fault.status == 500] == [
        at for at in struck if at != 2
    ]


def test_chance_is_about_the_probability() -> None:
    """A fault with probability 0.2 strikes about every fifth of many requests; 0 never, 1 always."""
    assert 120 < len(strikes("chance=0.2:500", [None] * 800)) < 200
    assert strikes("chance=0:500", [None] * 50) == []
    assert len(strikes("chance=1:500", [None] * 50)) == 50


def test_first_named_fault_wins_and_the_other_waits() -> None:
    """Of two faults for one request the first strikes; the second is left for the next chance."""
    plan = FaultPlan(parse_faults(["page=1:500", "page=1:502"]), 0)
    found = [plan.next_fault("studies", 1) for _ in range(3)]
    assert [fault and fault.status for fault in found] == [500, 502, None]
    assert [item["struck"] for item in plan.summary()] == [1, 1]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_can_be_named(endpoint: str) -> None:
    """Each endpoint the help names can be aimed at."""
    assert Fault.parse(f"request=1@{endpoint}:500").endpoint == endpoint
    assert endpoint in FAULT_SYNTAX
