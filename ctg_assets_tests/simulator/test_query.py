"""Selecting studies by query, filter and sort parameters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.query import StudyIndex, canonical_nct_id
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, study

SOURCE = InMemorySource(
    [
        study(1, title="Asthma in Adults", enrollment=30, posted="2024-03-01", start="2020-01"),
        study(
            2, title="Asthma in Children", enrollment=10, posted="2024-01-15", status="RECRUITING"
        ),
        study(3, title="Insulin Pumps", posted="2024-02-01", start="2021", aliases=[nct_id(90)]),
        study(4, title="Pain", enrollment=20, posted="2023-12-31", start="2020-01-15"),
    ]
)


def selected(**parameters: str) -> list[str]:
    """The NCT ids selected by parameters, in their order; `__` in a name stands for a point."""
    given_names = {name.replace("__", "."): value for name, value in parameters.items()}
    return [SOURCE.nct_id(index) for index in StudyIndex(SOURCE).select(given_names)]


def numbers(**parameters: str) -> list[int]:
    """The NCT numbers selected by parameters, ascending."""
    return sorted(int(found.removeprefix("NCT")) for found in selected(**parameters))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"query__term": ""}, [1, 2, 3, 4]),
        ({"query__term": "asthma"}, [1, 2]),
        ({"query__titles": "asthma", "filter__advanced": "NOT children"}, [1]),
        ({"postFilter__advanced": "AREA[EnrollmentCount]MISSING"}, [3]),
        ({"filter__overallStatus": "RECRUITING|WITHDRAWN"}, [2]),
        ({"filter__overallStatus": "COMPLETED,RECRUITING", "query__cond": "asthma"}, [1, 2]),
        ({"filter__ids": "NCT00000002|nct4"}, [2, 4]),
        ({"filter__ids": "NCT00000090,NCT00000077"}, [3]),
        ({"filter__ids": "NCT1", "query__term": "insulin"}, []),
        ({"query__term": "NCT00000001 NCT3", "filter__overallStatus": "RECRUITING"}, [1, 3]),
        ({"query__id": "NCT00000001,NCT00000002", "query__term": "children"}, [2]),
        ({"query__term": "AREA[LastUpdatePostDate]RANGE[2024-01-15,2024-02-01]"}, [2, 3]),
    ],
)
def test_selection(parameters: dict[str, str], expected: list[int]) -> None:
    """Queries and filters narrow together; a query of NCT ids alone switches the filters off."""
    assert numbers(**parameters) == expected


class _SlowSource(InMemorySource):
    """A source that says when a study is read, and gives it when it may."""

    def __init__(self) -> None:
        super().__init__([study(1)])
        self.begun, self.go_on = Event(), Event()

    def raw(self, index: int) -> bytes:
        """The study's JSON."""
        self.begun.set()
        assert self.go_on.wait(30)
        return super().raw(index)


def test_a_long_search_keeps_nobody_else_waiting() -> None:
    """Pages of a walk are served while studies are read for a search; who asks for the same waits for the first."""
    source = _SlowSource()
    index = StudyIndex(source)
    search = {"query.term": "study"}
    with ThreadPoolExecutor(2) as threads:
        searches = [threads.submit(index.select, search)]
        assert source.begun.wait(30)
        searches.append(threads.submit(index.select, search))
        assert list(index.select({})) == [0]
        source.go_on.set()
        assert [list(each.result()) for each in searches] == [[0], [0]]
    assert source.read == 1


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("LastUpdatePostDate", [1, 3, 2, 4]),
        ("LastUpdatePostDate:asc", [4, 2, 3, 1]),
        ("EnrollmentCount", [2, 4, 1, 3]),
        ("EnrollmentCount:desc", [1, 4, 2, 3]),
        ("StartDate:asc|EnrollmentCount", [1, 4, 3, 2]),
        ("@relevance,protocolSection.designModule.enrollmentInfo.count:desc", [1, 4, 2, 3]),
    ],
)
def test_sorting(sort: str, expected: list[int]) -> None:
    """Dates sort descending and numbers ascending unless told; studies without the field come last."""
    assert selected(sort=sort) == [nct_id(number) for number in expected]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sort": "EnrollmentCount:up"}, "Item 1 in parameter `sort` has incorrect format"),
        ({"sort": "BriefTitle"}, "Unsupported sort field type: text"),
        ({"sort": "Phase"}, "Unsupported sort field type: Phase[]"),
        ({"sort": "NotAField"}, "Unknown piece name of field path: NotAField"),
        ({"sort": "StartDate,StartDate,StartDate"}, "Parameter `sort` has more than 2 items"),
        ({"filter__ids": "NCT1,XYZ"}, "Item 2 in parameter `filter.ids` has incorrect format"),
        (
            {"filter__overallStatus": "BADSTATUS"},
            "Invalid value in parameter `overallStatus`: `BADSTATUS`",
        ),
        (
            {"filter__advanced": "AREA[NotARealField]x"},
            "Error parsing query in advanced filter: Unknown area name: `NotARealField`",
        ),
        ({"query__term": "[x]"}, "Error parsing query in Other terms: mismatched input '['"),
        ({"query__intr": "(x"}, "Error parsing query in Intervention / treatment: mismatched"),
        ({"query__term": "NCT1", "filter__ids": "x"}, "Item 1 in parameter `filter.ids`"),
    ],
)
def test_refusals(parameters: dict[str, str], message: str) -> None:
    """Parameters that cannot be understood are refused with 400, worded as recorded answers are."""
    with pytest.raises(ApiError) as refusal:
        selected(**parameters)
    assert refusal.value.status == 400
    assert refusal.value.message.startswith(message)


def test_date_ranges_do_not_read_studies() -> None:
    """LastUpdatePostDate expressions and sorting are answered without generating a single study."""
    source = InMemorySource(
        [study(number, posted=f"2024-01-{number:02d}") for number in range(1, 29)]
    )
    parameters = {
        "query.term": "AREA[LastUpdatePostDate]RANGE[2024-01-10,MAX]",
        "filter.advanced": "NOT AREA[LastUpdatePostDate]2024-01-20",
        "sort": "LastUpdatePostDate:asc",
    }
    found = StudyIndex(source).select(parameters)
    assert [source.nct_id(index) for index in found] == [
        nct_id(number) for number in range(10, 29) if number != 20
    ]
    assert source.read == 0


def test_scans_are_remembered_and_narrowed_by_dates() -> None:
    """A scan reads only studies that the date part leaves over, and once per selection."""
    source = InMemorySource(
        [study(number, posted=f"2024-01-{number:02d}") for number in range(1, 29)]
    )
    index = StudyIndex(source)
    parameters = {"query.term": "study AND AREA[LastUpdatePostDate]RANGE[2024-01-25,MAX]"}
    first = index.select(parameters)
    assert source.read == 4
    assert index.select({**parameters, "pageSize": "2"}) is first
    assert source.read == 4


@given(st.integers(1, 99_999_999), st.integers(0, 3), st.booleans())
def test_nct_ids_are_made_canonical(number: int, zeros: int, lower: bool) -> None:
    """Case and leading zeros do not matter in NCT ids."""
    text = f"NCT{'0' * zeros}{number}"
    assert canonical_nct_id(text.lower() if lower else text) == nct_id(number)


@pytest.mark.parametrize("text", ["", "NCT", "NCT0", "NCT123456789", "XNCT1", "NCT1 ", "NCT१"])
def test_other_texts_are_no_nct_ids(text: str) -> None:
    """What is not NCT and a number of up to eight digits is no NCT id."""
    assert canonical_nct_id(text) is None
