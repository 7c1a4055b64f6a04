"""The differences between two contents of a study, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.changes.field_changes import ChangeKind, FieldChange, field_changes
from ctg_assets.model.changes.item_keys import ITEM_KEYS, keys_by_path
from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.identity import identify
from ctg_assets.model.volatile import without_volatile
from ctg_assets.simulator import generate
from ctg_assets.simulator.identity import FIRST_DATA_DAY
from ctg_assets_tests.model.edits import edited
from ctg_assets_tests.model.wild import wild_study

ADDED, REMOVED, CHANGED, MOVED = ChangeKind

SITES = "protocolSection.contactsLocationsModule.locations[]"
OUTCOMES = "protocolSection.outcomesModule.primaryOutcomes[]"
KEYWORDS = "protocolSection.conditionsModule.keywords[]"

seeds = st.integers(0, 2**32)


def nested(path: str, value: Any) -> Any:
    """A study that holds one value, at a path without list items."""
    for name in reversed(path.removesuffix("[]").split(".")):
        value = {name: value}
    return value


def told(old: Any, new: Any) -> list[tuple[str, str | None, str, Any, Any]]:
    """The changes from an old to a new study: last name of the path, item, kind, and the values decoded."""
    return [
        (
            change.path.rpartition(".")[2],
            change.item,
            str(change.change),
            change.old_value and msgspec.json.decode(change.old_value),
            change.new_value and msgspec.json.decode(change.new_value),
        )
        for change in field_changes(old, new)
    ]


def leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each value at and below a path, with the path it has in field changes and as JSON.

    Empty objects and lists are left out: they are told only where nothing else is.
    """
    node = nodes_by_path().get(path)
    if node is None or not node.is_leaf or node.is_list:
        if isinstance(value, dict):
            for name, below in value.items():
                yield from leaves(f"{path}.{name}" if path else name, below)
            return
        if isinstance(value, list):
            for below in value:
                yield from leaves(f"{path}[]", below)
            return
    yield path, msgspec.json.encode(value, order="sorted").decode()


def leaves_of(study: Any) -> Counter[tuple[str, str]]:
    """All values of a study, without the day of the registry's refresh."""
    return Counter(leaves("", without_volatile(study)))


def values_told(changes: list[FieldChange], side: str) -> Counter[tuple[str, str]]:
    """All values that one side of the changes tells."""
    texts = ((change.path, getattr(change, side)) for change in changes)
    return Counter(
        leaf
        for path, text in texts
        if text is not None
        for leaf in leaves(path, msgspec.json.decode(text))
    )


def assert_all_is_told(old: Any, new: Any) -> None:
    """The changes take exactly the old study's values to the new one's, and back."""
    changes = field_changes(old, new)
    hashes = [identify(msgspec.json.encode(study)).content_hash for study in (old, new)]
    assert (changes == []) == (hashes[0] == hashes[1])
    gone, come = values_told(changes, "old_value"), values_told(changes, "new_value")
    assert leaves_of(old) - gone + come == leaves_of(new)
    assert leaves_of(old) & gone == gone
    assert Counter(field_changes(new, old)) == Counter(map(mirrored, changes))


def mirrored(change: FieldChange) -> FieldChange:
    """A change as seen when going back."""
    kind = {ADDED: REMOVED, REMOVED: ADDED}.get(change.change, change.change)
    return replace(change, change=kind, old_value=change.new_value, new_value=change.old_value)


@pytest.mark.slow
@settings(max_examples=60)
@given(seed=seeds, edits=st.integers(0, 12))
def test_any_edits_are_told_whole_and_alike_in_both_directions(seed: int, edits: int) -> None:
    """Whatever is done to a study, its changes account for every value, and mirror when it is undone."""
    study = wild_study(seed, 1)
    assert_all_is_told(study, edited(study, seed, edits))


@settings(max_examples=15)
@given(seed=seeds)
def test_studies_of_nothing_in_common_are_told_whole(seed: int) -> None:
    """Changes between two unrelated studies account for every value of both."""
    assert_all_is_told(wild_study(seed, 1), wild_study(seed + 1, 1))


@pytest.mark.parametrize(
    "pair", [(None, {}), ({}, []), ([], "a"), ({"a": {}}, {"a": [{}]}), (1, True)]
)
def test_what_is_no_study_is_compared_too(pair: tuple[Any, Any]) -> None:
    """Any JSON value can be compared with any other."""
    assert_all_is_told(*pair)


@given(index=st.integers(0, 500), revision=st.integers(1, 5))
def test_a_revision_by_the_simulator_is_told_by_what_it_touched(index: int, revision: int) -> None:
    """Revised generated studies differ in the modules that revisions touch, and nowhere else."""
    old, new = (generate.study(7, index, number) for number in (0, revision))
    assert_all_is_told(old, new)
    touched = {change.module for change in field_changes(old, new)}
    assert "statusModule" in touched
    assert touched <= {"statusModule", "descriptionModule", "designModule"}


def test_the_day_of_the_registrys_refresh_is_no_change() -> None:
    """`versionHolder` does not count, whatever it is, and the compared studies keep it."""
    old, new = (generate.study(7, 1, 0, day) for day in (FIRST_DATA_DAY, FIRST_DATA_DAY + 1))
    assert old != new
    assert field_changes(old, new) == []
    assert "versionHolder" in old["derivedSection"]["miscInfoModule"]


def test_a_change_names_module_path_and_values() -> None:
    """A field outside lists is told with its module, the registry's path and JSON of both values."""
    old = nested("protocolSection.statusModule.startDateStruct", {"date": "2024-01"})
    new = nested(
        "protocolSection.statusModule.startDateStruct", {"date": "2024-02", "type": "ACTUAL"}
    )
    path = "protocolSection.statusModule.startDateStruct"
    assert field_changes(old, new) == [
        FieldChange("statusModule", f"{path}.date", None, CHANGED, '"2024-01"', '"2024-02"'),
        FieldChange("statusModule", f"{path}.type", None, ADDED, None, '"ACTUAL"'),
    ]
    assert field_changes({"hasResults": False}, {"hasResults": True}) == [
        FieldChange("hasResults", "hasResults", None, CHANGED, "false", "true")
    ]


def test_items_are_matched_by_key_wherever_they_stand() -> None:
    """A changed item is told by its changed field although another one was put before it."""

    def site(facility: str, city: str, **more: str) -> dict[str, str]:
        return {"facility": facility, "city": city, "country": "Z", **more}

    old = nested(SITES, [site("A", "X"), site("B", "Y")])
    new = nested(SITES, [site("C", "Y"), site("A", "X", status="RECRUITING"), site("B", "Y")])
    assert told(old, new) == [
        ("status", "A / X / Z", "added", None, "RECRUITING"),
        ("locations[]", "C / Y / Z", "added", None, site("C", "Y")),
    ]


def test_a_looser_key_finds_what_the_strict_one_lost() -> None:
    """A corrected zip code is a change of the site, not a site less and a site more."""
    place = {"facility": "A", "city": "X", "country": "Y"}
    assert told(nested(SITES, [{**place, "zip": "1"}]), nested(SITES, [{**place, "zip": "2"}])) == [
        ("zip", "A / X / Y", "changed", "1", "2")
    ]
    assert told(
        nested(SITES, [{**place, "zip": "1", "facility": "Site 7"}]),
        nested(SITES, [{**place, "zip": "1"}]),
    ) == [("facility", "X / 1 / Y", "changed", "Site 7", "A")]


def test_a_name_says_as_much_as_tells_items_apart() -> None:
    """Outcomes of one measure are named with their time frames, the others by their measure alone."""
    outcomes = [("pain", "week 1"), ("pain", "week 2"), ("survival", "week 2")]
    old = [
        {"measure": measure, "timeFrame": time, "description": "a"} for measure, time in outcomes
    ]
    new = [{**outcome, "description": "b"} for outcome in old]
    assert [item for _, item, *_ in told(nested(OUTCOMES, old), nested(OUTCOMES, new))] == [
        "pain / week 1",
        "pain / week 2",
        "survival",
    ]


def test_items_of_one_key_are_paired_by_content_first_and_then_in_order() -> None:
    """Of three items with one key the unchanged one is left alone, and the others pair as they stand."""
    old = nested(OUTCOMES, [{"measure": "m", "description": text} for text in ("a", "b", "c")])
    new = nested(OUTCOMES, [{"measure": "m", "description": text} for text in ("A", "a", "C")])
    assert told(old, new) == [
        ("description", "m", "changed", "b", "A"),
        ("description", "m", "changed", "c", "C"),
        ("primaryOutcomes[]", None, "moved", None, None),
    ]


def test_another_order_is_told_once_for_the_list() -> None:
    """Reordered items are one change without values, also in a list of plain values."""
    old, new = nested(KEYWORDS, ["a", "b", "c"]), nested(KEYWORDS, ["c", "a", "b"])
    assert told(old, new) == [("keywords[]", None, "moved", None, None)]
    assert told(old, nested(KEYWORDS, ["a", "x", "b", "b", "c"])) == [
        ("keywords[]", None, "added", None, "x"),
        ("keywords[]", None, "added", None, "b"),
    ]


def test_items_within_items_are_named_from_the_outermost_in() -> None:
    """A result is named by all the lists it lies in; what has no title is a hyphen."""

    def results(value: str) -> Any:
        measurements = [{"groupId": "OG000", "value": "1"}, {"groupId": "OG001", "value": value}]
        measure = {"type": "PRIMARY", "title": "pain"}
        classes = [{"categories": [{"measurements": measurements}]}]
        return nested(
            "resultsSection.outcomeMeasuresModule.outcomeMeasures",
            [{**measure, "classes": classes}],
        )

    assert told(results("2"), results("3")) == [
        ("value", "PRIMARY / pain > - > - > OG001", "changed", "2", "3")
    ]


def test_what_is_empty_is_told_only_where_nothing_else_is() -> None:
    """An empty object that comes is a change; one that gets its first field is told by that field."""
    path = "protocolSection.statusModule"
    empty, filled = nested(path, {}), nested(path, {"overallStatus": "RECRUITING"})
    assert told({"protocolSection": {}}, empty) == [("statusModule", None, "added", None, {})]
    assert told(empty, filled) == [("overallStatus", None, "added", None, "RECRUITING")]
    assert told(nested(KEYWORDS, []), nested(KEYWORDS, ["a"])) == [
        ("keywords[]", None, "added", None, "a")
    ]


def test_fields_outside_the_model_are_told() -> None:
    """Unknown fields have a path like the others; unknown lists of objects are compared by content."""
    old = nested("protocolSection.newModule", {"a": 1, "items": [{"id": "x", "b": 1}]})
    new = nested("protocolSection.newModule", {"a": 2, "items": [{"id": "x", "b": 2}]})
    assert told(old, new) == [
        ("a", None, "changed", 1, 2),
        ("items[]", None, "removed", {"id": "x", "b": 1}, None),
        ("items[]", None, "added", None, {"id": "x", "b": 2}),
    ]


def test_a_point_is_one_value() -> None:
    """A place's coordinates are one leaf of the model and change as one."""
    site = {"facility": "A", "city": "X", "country": "Y"}
    old = nested(SITES, [{**site, "geoPoint": {"lat": 1.5, "lon": 2.5}}])
    new = nested(SITES, [{**site, "geoPoint": {"lat": 1.5, "lon": 3.5}}])
    [(name, *_)] = told(old, new)
    assert name == "geoPoint"


def test_every_list_of_objects_has_a_key_of_members_that_exist() -> None:
    """Keys are declared for every list of objects in the field tree, and for nothing else."""
    lists = [node for node in nodes_by_path().values() if node.is_list and node.children]
    assert set(keys_by_path()) == {node.path for node in lists}
    assert set(ITEM_KEYS) == {node.base_type for node in lists}
    for node in lists:
        members = {child.name for child in node.children}
        assert all(members >= set(key) for key in ITEM_KEYS[node.base_type]), node.path
