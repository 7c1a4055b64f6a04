"""The registry's own account of its data against our model, and learning from it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets import model
from ctg_assets.model.drift import Drift, DriftKind, drifts
from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.published import (
    PublishedEnum,
    PublishedField,
    PublishedModel,
    PublishedValue,
)
from ctg_assets.simulator import catalog
from ctg_assets_tests.model.models import learned
from ctg_assets_tests.support.published import recorded_answers

ARMS = "protocolSection.armsInterventionsModule.armGroups"
INTERVENTIONS = "protocolSection.armsInterventionsModule.interventions"


def published(
    change_field: Callable[[PublishedField], PublishedField | None] = lambda node: node,
    change_enum: Callable[[PublishedEnum], PublishedEnum] = lambda enum: enum,
) -> PublishedModel:
    """What a registry of our model would publish, with changes to nodes (None leaves one out) and enums."""
    ours = PublishedModel.from_json(
        msgspec.json.encode(catalog.metadata()), msgspec.json.encode(catalog.enums())
    )

    def changed(nodes: tuple[PublishedField, ...]) -> tuple[PublishedField, ...]:
        below = (msgspec.structs.replace(node, children=changed(node.children)) for node in nodes)
        return tuple(node for one in below if (node := change_field(one)) is not None)

    return PublishedModel(changed(ours.fields), tuple(map(change_enum, ours.enums)))


def test_the_model_is_the_recorded_one() -> None:
    """Nothing drifted since our model was written from the recorded answers."""
    assert drifts(PublishedModel.from_json(*recorded_answers())) == []


def test_learning_reproduces_the_committed_files() -> None:
    """From the recorded answers the model's files come out byte for byte."""
    recorded = PublishedModel.from_json(*recorded_answers())
    committed = files(model)
    assert recorded.fields_csv() == (committed / "fields.csv").read_text(encoding="utf-8")
    assert recorded.enums_csv() == (committed / "enums.csv").read_text(encoding="utf-8")


def test_a_new_field_is_named() -> None:
    """A field that the registry added is told with its type, and so are those below it."""

    def add(node: PublishedField) -> PublishedField:
        if node.piece != "ArmGroup":
            return node
        unit = PublishedField("unit", "ArmSizeUnit", "text", "TEXT")
        size = PublishedField("size", "ArmSize", "ArmSize", "STRUCT", (unit,))
        return msgspec.structs.replace(node, children=(*node.children, size))

    assert drifts(published(add)) == [
        Drift(
            DriftKind.FIELD_ADDED,
            f"{ARMS}.size",
            in_registry="ArmSize of STRUCT, piece ArmSize",
        ),
        Drift(
            DriftKind.FIELD_ADDED,
            f"{ARMS}.size.unit",
            in_registry="text of TEXT, piece ArmSizeUnit",
        ),
    ]


def test_a_removed_field_is_named() -> None:
    """A field that the registry no longer has is told with what our model says of it."""
    without = published(lambda node: None if node.piece == "ArmGroupType" else node)
    (found,) = drifts(without)
    assert str(found) == f"field removed: {ARMS}.type (ArmGroupType of TEXT, piece ArmGroupType)"


@pytest.mark.parametrize("changed", [{"type": "integer"}, {"source_type": "LONG"}, {"piece": "X"}])
def test_a_retyped_field_is_named_with_both_types(changed: dict[str, str]) -> None:
    """Type, source type and piece of a field are compared."""

    def retype(node: PublishedField) -> PublishedField:
        return msgspec.structs.replace(node, **changed) if node.piece == "ArmGroupLabel" else node

    (found,) = drifts(published(retype))
    assert (found.kind, found.name) == (DriftKind.FIELD_RETYPED, f"{ARMS}.label")
    assert found.in_model == "text of TEXT, piece ArmGroupLabel"
    assert next(iter(changed.values())) in found.in_registry


def test_a_field_that_became_a_single_object_is_one_change() -> None:
    """A list that is none any more is a retyped field; the fields below it did not change."""

    def single(node: PublishedField) -> PublishedField:
        kind = node.type.removesuffix("[]") if node.piece == "Intervention" else node.type
        return msgspec.structs.replace(node, type=kind)

    (found,) = drifts(published(single))
    assert (found.kind, found.name) == (DriftKind.FIELD_RETYPED, INTERVENTIONS)
    assert found.in_model.startswith("Intervention[] of")
    assert found.in_registry.startswith("Intervention of")


def test_values_are_compared() -> None:
    """Added, removed and respelled values are told by enumeration and value."""

    def change(enum: PublishedEnum) -> PublishedEnum:
        if enum.type != "DateType":
            return enum
        respelled = PublishedValue("ACTUAL", "Real")
        return PublishedEnum("DateType", (respelled, PublishedValue("GUESSED", "Guessed")))

    found = drifts(published(change_enum=change))
    assert [(one.kind, one.name) for one in found] == [
        (DriftKind.VALUE_RESPELLED, "DateType ACTUAL"),
        (DriftKind.VALUE_ADDED, "DateType GUESSED"),
        (DriftKind.VALUE_REMOVED, "DateType ESTIMATED"),
    ]
    assert (found[0].in_model, found[0].in_registry) == ("Actual", "Real")


def test_order_is_no_drift() -> None:
    """The registry may list its fields and values in any order."""
    ours = published()
    enums = tuple(PublishedEnum(enum.type, enum.values[::-1]) for enum in ours.enums)
    assert drifts(PublishedModel(ours.fields[::-1], enums[::-1])) == []


_NAMES = st.from_regex(r"[a-z][A-Za-z0-9]{0,5}", fullmatch=True)
_TEXTS = st.text(
    st.characters(categories=["L", "N", "P", "Zs"], exclude_characters=";="), min_size=1
)


def _nodes(
    children: st.SearchStrategy[tuple[PublishedField, ...]],
) -> st.SearchStrategy[PublishedField]:
    types = st.builds(str.__add__, _NAMES, st.sampled_from(["", "[]"]))
    return st.builds(PublishedField, _NAMES, _NAMES, types, _TEXTS, children)


_TREES = st.recursive(
    st.just(()),
    lambda below: st.lists(_nodes(below), max_size=4, unique_by=lambda node: node.name).map(tuple),
    max_leaves=12,
).filter(bool)
_ENUMS = st.lists(
    st.builds(
        PublishedEnum,
        _NAMES,
        st.lists(
            st.builds(PublishedValue, _NAMES, _TEXTS, st.dictionaries(_NAMES, _TEXTS, max_size=3)),
            min_size=1,
            max_size=4,
            unique_by=lambda item: item.value,
        ).map(tuple),
    ),
    max_size=4,
    unique_by=lambda enum: enum.type,
).map(tuple)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.builds(PublishedModel, _TREES, _ENUMS))
def test_what_was_learned_is_no_drift(registry: PublishedModel) -> None:
    """Whatever a registry publishes, a model learned from it has the same fields and does not drift."""
    with learned(registry):
        assert list(nodes_by_path()) == [path for path, _ in registry.paths()]
        assert drifts(registry) == []
