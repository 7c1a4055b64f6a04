"""The names by which requests refer to study fields: pieces, paths, field names and search areas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from ctg_assets.model.fields import FieldNode, nodes_by_path

BASIC_SEARCH = "BasicSearch"

SEARCH_AREAS: Mapping[str, tuple[str, ...]] = {
    BASIC_SEARCH: (
        *("NCTId", "OrgStudyId", "SecondaryId", "Acronym", "BriefTitle", "OfficialTitle"),
        *("BriefSummary", "Condition", "Keyword", "ConditionMeshTerm"),
        *("InterventionName", "InterventionOtherName", "InterventionMeshTerm"),
        *("PrimaryOutcomeMeasure", "LeadSponsorName", "OverallOfficialName"),
    ),
    "ConditionSearch": (
        *("Condition", "BriefTitle", "OfficialTitle"),
        *("ConditionMeshTerm", "ConditionAncestorTerm", "Keyword"),
    ),
    "InterventionSearch": (
        *("InterventionName", "InterventionType", "InterventionOtherName", "ArmGroupType"),
        *("BriefTitle", "OfficialTitle", "ArmGroupLabel", "InterventionMeshTerm", "Keyword"),
    ),
    "TitleSearch": ("Acronym", "BriefTitle", "OfficialTitle"),
    "OutcomeSearch": (
        *("PrimaryOutcomeMeasure", "SecondaryOutcomeMeasure", "OtherOutcomeMeasure"),
        *("PrimaryOutcomeDescription", "SecondaryOutcomeDescription", "OtherOutcomeDescription"),
        *("OutcomeMeasureTitle", "OutcomeMeasureDescription"),
    ),
    "SponsorSearch": ("LeadSponsorName", "CollaboratorName", "OrgFullName"),
    "IdSearch": ("NCTId", "NCTIdAlias", "Acronym", "OrgStudyId", "SecondaryId"),
    "LocationSearch": (
        *("LocationFacility", "LocationCity", "LocationState", "LocationCountry", "LocationZip"),
    ),
}
"""The registry's search areas as pieces. The real ones also weigh pieces and expand synonyms."""


@cache
def _nodes_by_name() -> dict[str, tuple[FieldNode, ...]]:
    nodes = tuple(nodes_by_path().values())
    by_piece = {node.piece: node for node in nodes}
    names: dict[str, tuple[FieldNode, ...]] = {}
    # A bare field name is as good as a path only where the tree has it once (57 names are ambiguous).
    for node in nodes:
        names[node.name] = () if node.name in names else (node,)
    names = {name: found for name, found in names.items() if found}
    names |= {node.path.replace("[]", ""): (node,) for node in nodes}
    names |= {area: tuple(by_piece[piece] for piece in SEARCH_AREAS[area]) for area in SEARCH_AREAS}
    names |= {piece: (node,) for piece, node in by_piece.items()}
    return names


def resolve(name: str) -> tuple[FieldNode, ...]:
    """The nodes a piece name, dotted path, unambiguous field name or search area stands for.

    Empty when there is no such name. `[]` in paths is optional.
    """
    return _nodes_by_name().get(name.replace("[]", ""), ())


@cache
def keys_of(path: str) -> tuple[str, ...]:
    """The JSON keys that lead to a node, outermost first."""
    return tuple(path.replace("[]", "").split("."))


def values(study: object, path: str) -> Iterator[object]:
    """Every value a study holds at a path, through any lists on the way.

    Yields nothing where the study lacks the field or holds another shape there.
    """
    return _below(study, keys_of(path))


def _below(value: object, keys: tuple[str, ...]) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _below(item, keys)
    elif not keys:
        yield value
    elif isinstance(value, dict) and keys[0] in value:
        yield from _below(value[keys[0]], keys[1:])
