"""The sections by which the documentation groups tables: those of the registry's record."""

from __future__ import annotations

from collections.abc import Sequence

from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.tables import Table

# By module or, for modules that are not here, by top-level section. Small modules share a title.
_TITLES = {
    "protocolSection.identificationModule": "Identification and status",
    "protocolSection.statusModule": "Identification and status",
    "protocolSection.sponsorCollaboratorsModule": "Identification and status",
    "protocolSection.oversightModule": "Identification and status",
    "protocolSection.descriptionModule": "Design and eligibility",
    "protocolSection.conditionsModule": "Design and eligibility",
    "protocolSection.designModule": "Design and eligibility",
    "protocolSection.outcomesModule": "Design and eligibility",
    "protocolSection.eligibilityModule": "Design and eligibility",
    "protocolSection.armsInterventionsModule": "Arms and interventions",
    "protocolSection.contactsLocationsModule": "Contacts and locations",
    "protocolSection.referencesModule": "References and data sharing",
    "protocolSection.ipdSharingStatementModule": "References and data sharing",
    "protocolSection": "Protocol",
    "resultsSection.participantFlowModule": "Results: participant flow",
    "resultsSection.baselineCharacteristicsModule": "Results: baseline characteristics",
    "resultsSection.outcomeMeasuresModule": "Results: outcome measures",
    "resultsSection.adverseEventsModule": "Results: adverse events",
    "resultsSection.moreInfoModule": "Results: more information",
    "resultsSection": "Results",
    "derivedSection": "Derived by the registry",
    "annotationSection": "Annotations",
    "documentSection": "Documents",
}


def sections(tables: Sequence[Table]) -> dict[str, list[Table]]:
    """The tables by the title of their section, sections in the order of the record."""
    order = {path: number for number, path in enumerate(["", *nodes_by_path()])}
    grouped: dict[str, list[Table]] = {}
    for table in sorted(tables, key=lambda one: order[_module(one.sources[0].path)]):
        grouped.setdefault(_section(table), []).append(table)
    return grouped


def _section(table: Table) -> str:
    paths = [source.path for source in table.sources]
    if paths == [""]:
        return "Study"
    modules = {_module(path) for path in paths}
    if len(modules) == 1:
        return _title(modules.pop())
    # A table that joins several modules is in the section of all of them, or where it comes first.
    parts = {path.partition(".")[0] for path in paths}
    whole = _TITLES.get(parts.pop()) if len(parts) == 1 else None
    return whole or _title(_module(paths[0]))


def _module(path: str) -> str:
    return ".".join(path.split(".")[:2])


def _title(module: str) -> str:
    return _TITLES.get(module) or _TITLES.get(module.partition(".")[0]) or module
