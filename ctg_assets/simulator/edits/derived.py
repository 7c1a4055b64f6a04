"""Edits of what the registry derives from a study; no sponsor submits anything."""

from __future__ import annotations

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.edits.desk import Desk, object_at, set_value
from ctg_assets.simulator.sections.parts import Json


def _derived(study: Json) -> Json | None:
    found = study.setdefault("derivedSection", {})
    return found if isinstance(found, dict) else None


def mesh_terms_changed(study: Json, desk: Desk) -> bool:
    """What the registry's own indexing does when its vocabulary changes; no sponsor submits anything."""
    derived = _derived(study)
    if derived is None:
        return False
    term = desk.draw.pick(vocabulary.mesh_terms("condition"))
    module: Json = {"meshes": [{"id": term.id, "term": term.term}]}
    if term.ancestors:
        module["ancestors"] = [{"id": id_, "term": name} for id_, name in term.ancestors]
    return set_value(derived, "conditionBrowseModule", module)


def mesh_terms_dropped(study: Json, desk: Desk) -> bool:
    """Remove the MeSH terms of the interventions."""
    del desk
    derived = object_at(study, "derivedSection")
    return derived is not None and derived.pop("interventionBrowseModule", None) is not None


def country_removed(study: Json, desk: Desk) -> bool:
    """Add a country to those that the study once had locations in."""
    derived = _derived(study)
    misc = None if derived is None else derived.setdefault("miscInfoModule", {})
    if not isinstance(misc, dict) or not isinstance(misc.setdefault("removedCountries", []), list):
        return False
    misc["removedCountries"].append(desk.draw.pick(vocabulary.places()).country)
    return True
