"""What the registry says about its data: the field tree, the enumerations, the sizes of its studies."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Any

from ctg_assets.model.fields import FieldNode, enum_values, field_tree, nodes_by_path
from ctg_assets.simulator.source import StudySource

# Sizing a study means generating it: 600,000 would take minutes, a sample of this size takes a moment.
SIZE_SAMPLE = 2000

_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_SIZE_STEPS = (0, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000)


def metadata() -> list[dict[str, Any]]:
    """The body of `/studies/metadata`; without titles, descriptions and rules, which we do not keep."""
    return [_described(node) for node in field_tree()]


def _described(node: FieldNode) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": node.name,
        "piece": node.piece,
        "sourceType": node.source_type,
        "type": node.type,
    }
    if node.is_enum:
        described["isEnum"] = True
    # Locations alone are indexed item by item, which is what SEARCH[Location] needs.
    if node.piece == "Location":
        described["nested"] = True
    if node.children:
        described["children"] = [_described(child) for child in node.children]
    return described


def enums() -> list[dict[str, Any]]:
    """The body of `/studies/enums`."""
    pieces: dict[str, list[str]] = {name: [] for name in enum_values()}
    for node in nodes_by_path().values():
        if node.is_enum:
            pieces[node.base_type].append(node.piece)
    return [
        {
            "type": name,
            "values": [
                {"value": item.value, "legacyValue": item.legacy_value}
                | ({"exceptions": item.legacy_exceptions} if item.legacy_exceptions else {})
                for item in items
            ],
            "pieces": pieces[name],
        }
        for name, items in enum_values().items()
    ]


def study_sizes(source: StudySource) -> dict[str, Any]:
    """The body of `/stats/size`, of JSON sizes in bytes.

    Of more than SIZE_SAMPLE studies only that many, evenly spread, are measured, and the counts are
    scaled up; `totalStudies` is exact always.
    """
    total = len(source)
    sampled = min(total, SIZE_SAMPLE)
    indexes = [place * total // sampled for place in range(sampled)]
    sizes = sorted((len(source.raw(index)), source.nct_id(index)) for index in indexes)
    lengths = [size for size, _ in sizes]
    return {
        "averageSizeBytes": sum(lengths) // sampled if sampled else 0,
        "largestStudies": [{"id": nct_id, "sizeBytes": size} for size, nct_id in sizes[:-11:-1]],
        "percentiles": {
            f"{percent}": lengths[min(sampled - 1, percent * sampled // 100)]
            for percent in _PERCENTILES
            if sampled
        },
        "ranges": _ranges(lengths, total),
        "totalStudies": total,
    }


def _ranges(lengths: list[int], total: int) -> list[dict[str, Any]]:
    # Scaling cumulative counts and taking differences keeps the sum of the ranges at the total.
    counts = [bisect_right(lengths, step) for step in _SIZE_STEPS[1:]]
    scaled = [0, *(count * total // len(lengths) if lengths else 0 for count in counts)]
    scaled[-1] = total
    return [
        {"sizeRange": f"{lower}-{upper}", "studiesCount": after - before}
        for (lower, upper), (before, after) in zip(
            pairwise(_SIZE_STEPS), pairwise(scaled), strict=True
        )
    ]
