"""By which of their members the items of each list are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ctg_assets.model.fields import nodes_by_path

Keys = tuple[tuple[str, ...], ...]
"""Keys of one type of item, the strictest first. Each names members of the item.

The looser ones pair what the stricter ones left over, and only items that have all their members: so
a site stays the same site when its zip code is corrected. The second is what people would call an item.
"""

ITEM_KEYS: Mapping[str, Keys] = {
    # Protocol.
    "SecondaryIdInfo": (("id", "type", "domain"), ("id",)),
    "Sponsor": (("name",),),
    "ArmGroup": (("label",),),
    "Intervention": (("type", "name"), ("name",)),
    "Outcome": (("measure", "timeFrame"), ("measure",)),
    "Contact": (("name", "role"), ("name",)),
    "Official": (("name", "role"), ("name",)),
    "Location": (
        ("facility", "city", "state", "zip", "country"),
        ("facility", "city", "country"),
        # Spellings of cities and facilities get corrected, placeholders become names of facilities.
        ("facility", "zip", "country"),
        ("city", "zip", "country"),
    ),
    # Few references have no PubMed id; one may get it later.
    "Reference": (("pmid", "citation"), ("pmid",), ("citation",)),
    "Retraction": (("pmid", "source"), ("pmid",)),
    "SeeAlsoLink": (("url", "label"), ("label",), ("url",)),
    # One repository holds several data sets of a study, often under the same id.
    "AvailIpd": (("type", "id", "url"), ("type", "url"), ("type", "id")),
    # Results. What is measured lies in groups by id, under titles that are missing where there is one alone.
    "FlowGroup": (("id",),),
    "FlowPeriod": (("title",),),
    "FlowMilestone": (("type",),),
    "FlowStats": (("groupId",),),
    "DropWithdraw": (("type",),),
    "MeasureGroup": (("id",),),
    "Denom": (("units",),),
    "DenomCount": (("groupId",),),
    "BaselineMeasure": (("title", "unitOfMeasure"), ("title",)),
    "MeasureClass": (("title",),),
    "MeasureCategory": (("title",),),
    "Measurement": (("groupId",),),
    "OutcomeMeasure": (("type", "title", "timeFrame"), ("type", "title"), ("title",)),
    # Analyses have no name: what was compared how comes closest to one.
    "MeasureAnalysis": (
        ("groupIds", "statisticalMethod", "paramType", "groupDescription"),
        ("groupIds", "statisticalMethod"),
        ("groupIds",),
    ),
    "EventGroup": (("id",),),
    "AdverseEvent": (("term", "organSystem", "assessmentType"), ("term", "organSystem"), ("term",)),
    "EventStats": (("groupId",),),
    # Annotations, documents and what the registry derives.
    "UnpostedEvent": (("type", "date"),),
    "ViolationEvent": (("type", "creationDate"),),
    "LargeDoc": (("filename", "typeAbbrev"), ("filename",)),
    "SubmissionInfo": (("releaseDate",),),
    "Mesh": (("id",),),
    "BrowseLeaf": (("id",),),
    "BrowseBranch": (("abbrev",),),
}
"""The keys of list items by the registry's name of their type."""


@cache
def keys_by_path() -> Mapping[str, Keys]:
    """The keys of the items of each list of objects, by the list's path (with `[]` at its end)."""
    return {
        path: ITEM_KEYS[node.base_type]
        for path, node in nodes_by_path().items()
        if node.is_list and node.children and node.base_type in ITEM_KEYS
    }
