"""How many rows each staging table must have, counted in the registry's JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Study = dict[str, Any]

_PROTOCOL = "protocolSection"
_IDENTIFICATION = f"{_PROTOCOL}.identificationModule"
_SPONSORS = f"{_PROTOCOL}.sponsorCollaboratorsModule"
_ARMS = f"{_PROTOCOL}.armsInterventionsModule"
_PLANNED = f"{_PROTOCOL}.outcomesModule"
_CONTACTS = f"{_PROTOCOL}.contactsLocationsModule"
_REFERENCES = f"{_PROTOCOL}.referencesModule"
_FLOW = "resultsSection.participantFlowModule"
_PERIODS = f"{_FLOW}.periods[]"
_BASELINE = "resultsSection.baselineCharacteristicsModule"
_MEASURES = f"{_BASELINE}.measures[]"
_OUTCOMES = "resultsSection.outcomeMeasuresModule.outcomeMeasures[]"
_EVENTS = "resultsSection.adverseEventsModule"
_MORE = "resultsSection.moreInfoModule"
_ANNOTATION = "annotationSection.annotationModule"
_MISC = "derivedSection.miscInfoModule"
_BROWSE = {
    "condition": "derivedSection.conditionBrowseModule",
    "intervention": "derivedSection.interventionBrowseModule",
}
# How AACT tells investigators from other contacts of a site.
_INVESTIGATOR = re.compile("investigator|study.chair", re.IGNORECASE)

# Objects and items at any of the paths, nulls left out; "" is the study itself.
_PATHS: Mapping[str, tuple[str, ...]] = {
    "studies": ("",),
    "calculated_values": ("",),
    "brief_summaries": (f"{_PROTOCOL}.descriptionModule",),
    "detailed_descriptions": (f"{_PROTOCOL}.descriptionModule",),
    "designs": (f"{_PROTOCOL}.designModule.designInfo",),
    "eligibilities": (f"{_PROTOCOL}.eligibilityModule",),
    "id_information": (
        f"{_IDENTIFICATION}.nctIdAliases[]",
        f"{_IDENTIFICATION}.orgStudyIdInfo",
        f"{_IDENTIFICATION}.secondaryIdInfos[]",
    ),
    "conditions": (f"{_PROTOCOL}.conditionsModule.conditions[]",),
    "keywords": (f"{_PROTOCOL}.conditionsModule.keywords[]",),
    "sponsors": (f"{_SPONSORS}.leadSponsor", f"{_SPONSORS}.collaborators[]"),
    "responsible_parties": (f"{_SPONSORS}.responsibleParty",),
    "overall_officials": (f"{_CONTACTS}.overallOfficials[]",),
    "central_contacts": (f"{_CONTACTS}.centralContacts[]",),
    "facilities": (f"{_CONTACTS}.locations[]",),
    "interventions": (f"{_ARMS}.interventions[]",),
    "intervention_other_names": (f"{_ARMS}.interventions[].otherNames[]",),
    "design_groups": (f"{_ARMS}.armGroups[]",),
    "design_group_interventions": (f"{_ARMS}.interventions[].armGroupLabels[]",),
    "design_group_intervention_names": (f"{_ARMS}.armGroups[].interventionNames[]",),
    "design_outcomes": (
        f"{_PLANNED}.primaryOutcomes[]",
        f"{_PLANNED}.secondaryOutcomes[]",
        f"{_PLANNED}.otherOutcomes[]",
    ),
    "study_references": (f"{_REFERENCES}.references[]",),
    "retractions": (f"{_REFERENCES}.references[].retractions[]",),
    "links": (f"{_REFERENCES}.seeAlsoLinks[]",),
    "documents": (f"{_REFERENCES}.availIpds[]",),
    "ipd_information_types": (f"{_PROTOCOL}.ipdSharingStatementModule.infoTypes[]",),
    "participant_flows": (_FLOW,),
    "flow_periods": (_PERIODS,),
    "flow_milestones": (f"{_PERIODS}.milestones[]",),
    "milestones": (f"{_PERIODS}.milestones[].achievements[]",),
    "flow_drop_withdrawals": (f"{_PERIODS}.dropWithdraws[]",),
    "drop_withdrawals": (f"{_PERIODS}.dropWithdraws[].reasons[]",),
    "baseline_counts": (f"{_BASELINE}.denoms[].counts[]",),
    "baseline_measures": (_MEASURES,),
    "baseline_measure_counts": (f"{_MEASURES}.denoms[].counts[]",),
    "baseline_classes": (f"{_MEASURES}.classes[]",),
    "baseline_class_counts": (f"{_MEASURES}.classes[].denoms[].counts[]",),
    "baseline_categories": (f"{_MEASURES}.classes[].categories[]",),
    "baseline_measurements": (f"{_MEASURES}.classes[].categories[].measurements[]",),
    "outcomes": (_OUTCOMES,),
    "outcome_counts": (f"{_OUTCOMES}.denoms[].counts[]",),
    "outcome_classes": (f"{_OUTCOMES}.classes[]",),
    "outcome_class_counts": (f"{_OUTCOMES}.classes[].denoms[].counts[]",),
    "outcome_categories": (f"{_OUTCOMES}.classes[].categories[]",),
    "outcome_measurements": (f"{_OUTCOMES}.classes[].categories[].measurements[]",),
    "outcome_analyses": (f"{_OUTCOMES}.analyses[]",),
    "outcome_analysis_groups": (f"{_OUTCOMES}.analyses[].groupIds[]",),
    "result_groups": (
        f"{_FLOW}.groups[]",
        f"{_BASELINE}.groups[]",
        f"{_OUTCOMES}.groups[]",
        f"{_EVENTS}.eventGroups[]",
    ),
    "adverse_event_reports": (_EVENTS,),
    "reported_event_terms": (f"{_EVENTS}.seriousEvents[]", f"{_EVENTS}.otherEvents[]"),
    "reported_events": (f"{_EVENTS}.seriousEvents[].stats[]", f"{_EVENTS}.otherEvents[].stats[]"),
    # One row each for serious events, other events and deaths.
    "reported_event_totals": (f"{_EVENTS}.eventGroups[]",) * 3,
    "result_agreements": (f"{_MORE}.certainAgreement",),
    "result_contacts": (f"{_MORE}.pointOfContact",),
    "provided_documents": ("documentSection.largeDocumentModule.largeDocs[]",),
    "pending_results": (f"{_ANNOTATION}.unpostedAnnotation.unpostedEvents[]",),
    "violation_events": (f"{_ANNOTATION}.violationAnnotation.violationEvents[]",),
    "submissions": (f"{_MISC}.submissionTracking.submissionInfos[]",),
    **{
        f"browse_{kind}s": (f"{module}.meshes[]", f"{module}.ancestors[]")
        for kind, module in _BROWSE.items()
    },
    **{f"browse_{kind}_leaves": (f"{m}.browseLeaves[]",) for kind, m in _BROWSE.items()},
    **{f"browse_{kind}_branches": (f"{m}.browseBranches[]",) for kind, m in _BROWSE.items()},
}


def _countries(study: Study) -> int:
    # Each country with sites once, and each whose sites were all removed.
    named = {site.get("country") for site in _at(study, f"{_CONTACTS}.locations[]")} - {None}
    return len(named) + len(list(_at(study, f"{_MISC}.removedCountries[]")))


def _facility_contacts(study: Study) -> int:
    return len(_site_contacts(study)) - _facility_investigators(study)


def _facility_investigators(study: Study) -> int:
    return sum(
        bool(_INVESTIGATOR.search(contact.get("role") or "")) for contact in _site_contacts(study)
    )


def _site_contacts(study: Study) -> list[Any]:
    return list(_at(study, f"{_CONTACTS}.locations[].contacts[]"))


_COUNTS: Mapping[str, Callable[[Study], int]] = {
    "countries": _countries,
    "facility_contacts": _facility_contacts,
    "facility_investigators": _facility_investigators,
}

COUNTED_TABLES = frozenset(_PATHS) | frozenset(_COUNTS)
"""The tables for which it is known how many rows they must have."""


def count_rows(studies: Iterable[Study]) -> Counter[str]:
    """The number of rows of each table for these studies, as the registry's JSON has them."""
    counts = Counter(dict.fromkeys(COUNTED_TABLES, 0))
    for study in studies:
        for table, paths in _PATHS.items():
            counts[table] += sum(1 for path in paths for _ in _at(study, path))
        for table, count in _COUNTS.items():
            counts[table] += count(study)
    return counts


def _at(value: Any, path: str) -> Iterator[Any]:
    """The values at a path below a value, of all items of the lists on the way; no nulls."""
    if value is None:
        return
    if not path:
        yield value
        return
    name, _, rest = path.partition(".")
    below = value.get(name.removesuffix("[]"))
    if below is not None:
        for one in below if name.endswith("[]") else (below,):
            yield from _at(one, rest)
