"""Edits of what a study says about itself: titles, descriptions, ids, references and documents."""

from __future__ import annotations

from ctg_assets.simulator.edits.desk import (
    Desk,
    add_item,
    module_of,
    objects_of,
    remove_item,
    reword,
    set_value,
)
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.sections.parts import Json, prose


def reference_added(study: Json, desk: Desk) -> bool:
    """Add a reference."""
    if not isinstance(study.get("protocolSection"), dict):
        return False
    study["protocolSection"].setdefault("referencesModule", {})
    pmid = str(10_000_000 + desk.draw.below(30_000_000))
    reference = {"pmid": pmid, "type": "DERIVED", "citation": prose(desk.draw, 1)}
    return add_item(study, "referencesModule", "references", reference)


def reference_removed(study: Json, desk: Desk) -> bool:
    """Remove a reference."""
    return remove_item(study, desk, "referencesModule", "references")


def reference_retracted(study: Json, desk: Desk) -> bool:
    """Note that a publication was retracted."""
    references = objects_of(study, "referencesModule", "references")
    if not references:
        return False
    notice = {"pmid": str(10_000_000 + desk.draw.below(30_000_000)), "source": "J Gen Stud."}
    return set_value(desk.draw.pick(references), "retractions", [notice])


def summary_reworded(study: Json, desk: Desk) -> bool:
    """Add a sentence to the brief summary."""
    return reword(module_of(study, "descriptionModule"), "briefSummary", desk)


def details_withdrawn(study: Json, desk: Desk) -> bool:
    """Remove the detailed description."""
    del desk
    description = module_of(study, "descriptionModule")
    return description is not None and description.pop("detailedDescription", None) is not None


def title_reworded(study: Json, desk: Desk) -> bool:
    """Possible for every study that has an identification, and every one has: its NCT id is there."""
    title = f"{prose(desk.draw, 1)} ({iso(desk.day)})"
    return set_value(module_of(study, "identificationModule"), "briefTitle", title)


def secondary_id_added(study: Json, desk: Desk) -> bool:
    """Add a secondary id."""
    item = {"id": f"{desk.draw.below(10_000_000):07d}", "type": "REGISTRY", "domain": "Example"}
    return add_item(study, "identificationModule", "secondaryIdInfos", item)


def document_added(study: Json, desk: Desk) -> bool:
    """Add a statistical analysis plan to the documents."""
    documents = study.setdefault("documentSection", {})
    if not isinstance(documents, dict):
        return False
    module = documents.setdefault("largeDocumentModule", {})
    if not isinstance(module, dict) or not isinstance(module.setdefault("largeDocs", []), list):
        return False
    document = {
        "typeAbbrev": "SAP",
        "hasProtocol": False,
        "hasSap": True,
        "hasIcf": False,
        "label": "Statistical Analysis Plan",
        "date": iso(desk.day - 30),
        "uploadDate": f"{iso(desk.day)}T10:00",
        "filename": f"SAP_{len(module['largeDocs']):03d}.pdf",
        "size": desk.draw.between(40_000, 9_000_000),
    }
    module["largeDocs"].append(document)
    return True
