"""Statements that join tables by their ids, and several on the study."""

from __future__ import annotations

import re
from collections import Counter

from ctg_assets_tests.aact.from_json import Registry, at, by_study, items
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask

_RESULTS = "resultsSection"
_FLOW = f"{_RESULTS}.participantFlowModule"


@ask(
    """
    SELECT dg.nct_id, dg.title, dg.group_type, i.name
    FROM design_groups dg
    JOIN design_group_interventions dgi ON dgi.design_group_id = dg.id
    JOIN interventions i ON i.id = dgi.intervention_id
    WHERE dg.group_type = 'PLACEBO_COMPARATOR'
    """,
    "join by id",
)
def what_placebo_groups_get(registry: Registry) -> Rows:
    """design_group_interventions to design_groups and interventions."""
    groups = by_study(registry.groups)
    found: Rows = []
    for one in registry.interventions:
        for label in one.json.get("armGroupLabels", []):
            meant = {group.title: group for group in groups.get(one.nct_id, [])}.get(label)
            if meant is not None and meant.type == "PLACEBO_COMPARATOR":
                found.append((one.nct_id, meant.title, meant.type, one.name))
    return found


@ask(
    """
    SELECT o.nct_id, o.title, rg.title, om.classification, om.category, om.param_value
    FROM outcome_measurements om
    JOIN outcomes o ON om.outcome_id = o.id
    JOIN result_groups rg ON om.result_group_id = rg.id
    WHERE o.outcome_type = 'PRIMARY'
    """,
    "join by id",
)
def primary_results_by_group(registry: Registry) -> Rows:
    """outcome_measurements to outcomes and result_groups: each value in its own measure and group."""
    return [
        (
            one.outcome.nct_id,
            one.outcome.title,
            one.group,
            one.classification,
            one.category,
            one.value,
        )
        for one in registry.measurements
        if one.outcome.type == "PRIMARY"
    ]


@ask(
    """
    SELECT oa.nct_id, o.title, oa.p_value_raw, array_agg(rg.title ORDER BY oag.id)
    FROM outcome_analyses oa
    JOIN outcomes o ON o.id = oa.outcome_id
    JOIN outcome_analysis_groups oag ON oag.outcome_analysis_id = oa.id
    JOIN result_groups rg ON rg.id = oag.result_group_id
    GROUP BY oa.id, oa.nct_id, o.title, oa.p_value_raw
    """,
    "join by id",
    "array_agg",
)
def groups_compared_by_each_analysis(registry: Registry) -> Rows:
    """outcome_analysis_groups to outcome_analyses, outcomes and result_groups."""
    return [
        (
            outcome.nct_id,
            outcome.title,
            one.get("pValue"),
            [outcome.group(code) for code in one["groupIds"]],
        )
        for outcome in registry.outcomes
        for one in items(outcome.json, "analyses")
        if one.get("groupIds")
    ]


@ask(
    """
    SELECT f.nct_id, f.name, f.city, fi.name, fi.role
    FROM facility_investigators fi JOIN facilities f ON f.id = fi.facility_id
    WHERE f.country = 'France'
    UNION ALL
    SELECT f.nct_id, f.name, f.city, fc.name, fc.contact_type
    FROM facility_contacts fc JOIN facilities f ON f.id = fc.facility_id
    WHERE f.country = 'France'
    """,
    "join by id",
)
def people_of_french_sites(registry: Registry) -> Rows:
    """facility_investigators and facility_contacts to facilities."""
    found: Rows = []
    for site in registry.facilities:
        if site.country != "France":
            continue
        first = "primary"
        for one in items(site.json, "contacts"):
            role = one.get("role") or ""
            is_investigator = re.search("investigator|study.chair", role, re.IGNORECASE)
            said = role if is_investigator else first
            first = first if is_investigator else "backup"
            found.append((site.nct_id, site.name, site.city, one.get("name"), said))
    return found


@ask(
    """
    SELECT i.name, ion.name FROM interventions i
    JOIN intervention_other_names ion ON ion.intervention_id = i.id AND ion.nct_id = i.nct_id
    WHERE i.intervention_type = 'BIOLOGICAL'
    """,
    "join by id",
)
def other_names_of_biologicals(registry: Registry) -> Rows:
    """intervention_other_names to interventions."""
    return [
        (one.name, other)
        for one in registry.interventions
        if one.type == "BIOLOGICAL"
        for other in one.json.get("otherNames", [])
    ]


@ask(
    """
    SELECT rg.title, rg.result_type, sum(dw.count) FROM drop_withdrawals dw
    JOIN result_groups rg ON rg.id = dw.result_group_id
    WHERE dw.reason = 'Adverse Event' GROUP BY rg.id, rg.title, rg.result_type
    """,
    "join by id",
)
def withdrawn_for_adverse_events(registry: Registry) -> Rows:
    """drop_withdrawals to result_groups."""
    found: Counter[tuple[str, str, str]] = Counter()
    for study in registry.studies:
        titles = {one["id"]: one["title"] for one in items(study.json, f"{_FLOW}.groups")}
        for period in items(study.json, f"{_FLOW}.periods"):
            for drop in items(period, "dropWithdraws"):
                for one in items(drop, "reasons") if drop["type"] == "Adverse Event" else []:
                    code = one["groupId"]
                    found[study.nct_id, code, titles[code]] += int(one["numSubjects"])
    return [(title, "Participant Flow", count) for (_, _, title), count in found.items()]


@ask(
    """
    SELECT m.nct_id, m.period, rg.title, m.count FROM milestones m
    INNER JOIN result_groups rg ON m.result_group_id = rg.id
    WHERE m.title = 'COMPLETED' AND m.count > 1000
    """,
    "join by id",
)
def large_groups_completed(registry: Registry) -> Rows:
    """Milestones to result_groups."""
    found: Rows = []
    for study in registry.studies:
        titles = {one["id"]: one["title"] for one in items(study.json, f"{_FLOW}.groups")}
        for period in items(study.json, f"{_FLOW}.periods"):
            for milestone in items(period, "milestones"):
                for one in items(milestone, "achievements"):
                    count = int((one.get("numSubjects") or "0").replace(",", ""))
                    if milestone["type"] == "COMPLETED" and count > 1000:
                        title = titles[one["groupId"]]
                        found.append((study.nct_id, period["title"], title, count))
    return found


@ask(
    """
    SELECT bc.nct_id, rg.title, bc.units, bc.count FROM baseline_counts bc
    JOIN result_groups rg ON rg.id = bc.result_group_id
    WHERE lower(bc.units) = 'participants' AND bc.count >= 1000
    """,
    "join by id",
    "lower",
)
def large_groups_at_baseline(registry: Registry) -> Rows:
    """baseline_counts to result_groups."""
    module = f"{_RESULTS}.baselineCharacteristicsModule"
    found: Rows = []
    for study in registry.studies:
        titles = {one["id"]: one["title"] for one in items(study.json, f"{module}.groups")}
        for denominator in items(study.json, f"{module}.denoms"):
            units = denominator["units"]
            for one in denominator["counts"]:
                count = int(one["value"].replace(",", ""))
                if units.lower() == "participants" and count >= 1000:
                    found.append((study.nct_id, titles[one["groupId"]], units, count))
    return found


@ask(
    """
    SELECT re.nct_id, rg.title, sum(re.subjects_affected) FROM reported_events re
    LEFT JOIN result_groups rg ON re.result_group_id = rg.id
    WHERE re.event_type = 'serious' AND re.adverse_event_term ILIKE '%myocardial infarction%'
    GROUP BY re.nct_id, rg.id, rg.title HAVING sum(re.subjects_affected) > 0
    """,
    "join by id",
    "sums of events",
    "ILIKE",
)
def infarctions_by_group(registry: Registry) -> Rows:
    """reported_events to result_groups."""
    module = f"{_RESULTS}.adverseEventsModule"
    found: Counter[tuple[str, str, str]] = Counter()
    for study in registry.studies:
        titles = {one["id"]: one["title"] for one in items(study.json, f"{module}.eventGroups")}
        for event in items(study.json, f"{module}.seriousEvents"):
            if "myocardial infarction" in event["term"].lower():
                for one in event["stats"]:
                    code = one["groupId"]
                    found[study.nct_id, code, titles[code]] += one.get("numAffected") or 0
    return [(nct_id, title, count) for (nct_id, _, title), count in found.items() if count > 0]


@ask(
    """
    SELECT r.nct_id, r.pmid, r.source, sr.pmid, sr.reference_type
    FROM retractions r JOIN study_references sr ON sr.id = r.reference_id
    """,
    "join by id",
)
def retracted_publications(registry: Registry) -> Rows:
    """Retractions to study_references."""
    return [
        (study.nct_id, one.get("pmid"), one.get("source"), reference.get("pmid"), reference["type"])
        for study in registry.studies
        for reference in items(study.json, "protocolSection.referencesModule.references")
        for one in items(reference, "retractions")
    ]


@ask(
    """
    SELECT DISTINCT s.nct_id, s.brief_title, e.minimum_age, f.city, sp.name
    FROM studies AS s
    JOIN eligibilities AS e ON s.nct_id = e.nct_id
    JOIN conditions AS c ON s.nct_id = c.nct_id
    JOIN facilities AS f ON s.nct_id = f.nct_id
    JOIN sponsors AS sp ON s.nct_id = sp.nct_id AND sp.lead_or_collaborator = 'lead'
    JOIN interventions AS i ON s.nct_id = i.nct_id
    WHERE c.name ILIKE '%asthma%' AND f.country = 'Canada' AND i.intervention_type = 'DRUG' AND e.child = true
    """,
    "join on nct_id",
    "ILIKE",
)
def asthma_of_children_in_canada(registry: Registry) -> Rows:
    """Six tables: eligibilities with facilities, conditions and studies, and who sponsors."""
    conditions = {one.nct_id for one in registry.conditions if "asthma" in one.name.lower()}
    drugs = {one.nct_id for one in registry.interventions if one.type == "DRUG"}
    cities = {(one.nct_id, one.city) for one in registry.facilities if one.country == "Canada"}
    return [
        (
            nct_id,
            registry.by_id[nct_id].brief_title,
            registry.eligibility(nct_id, "minimumAge"),
            city,
            registry.leads[nct_id].name,
        )
        for nct_id, city in cities
        if nct_id in conditions & drugs
        and "CHILD" in (registry.eligibility(nct_id, "stdAges") or [])
    ]


@ask(
    """
    SELECT s.source, rp.responsible_party_type, oo.role, rc.organization
    FROM studies s
    LEFT JOIN responsible_parties rp ON rp.nct_id = s.nct_id
    LEFT JOIN overall_officials oo ON oo.nct_id = s.nct_id
    LEFT JOIN result_contacts rc ON rc.nct_id = s.nct_id
    WHERE s.phase = 'PHASE1' AND s.overall_status = 'TERMINATED'
    """,
    "join on nct_id",
)
def who_is_responsible(registry: Registry) -> Rows:
    """responsible_parties, overall_officials and result_contacts, where there are any."""
    protocol = "protocolSection"
    party = f"{protocol}.sponsorCollaboratorsModule.responsibleParty.type"
    return [
        (
            study.source,
            at(study.json, party),
            official.get("role"),
            at(study.json, f"{_RESULTS}.moreInfoModule.pointOfContact.organization"),
        )
        for study in registry.studies
        if (study.phase, study.status) == ("PHASE1", "TERMINATED")
        for official in items(study.json, f"{protocol}.contactsLocationsModule.overallOfficials")
        or [{}]
    ]


@ask(
    """
    SELECT o.nct_id, o.title, rg.title, oc.count FROM outcome_counts oc
    JOIN outcomes o ON o.id = oc.outcome_id JOIN result_groups rg ON rg.id = oc.result_group_id
    WHERE o.outcome_type = 'PRIMARY' AND oc.units = 'Participants' AND oc.scope = 'Measure'
    """,
    "join by id",
)
def participants_analyzed(registry: Registry) -> Rows:
    """outcome_counts to outcomes and result_groups: participants of each group of each primary outcome."""
    return [
        (
            outcome.nct_id,
            outcome.title,
            outcome.group(one["groupId"]),
            int(one["value"].replace(",", "")),
        )
        for outcome in registry.outcomes
        if outcome.type == "PRIMARY"
        for denominator in items(outcome.json, "denoms")
        if denominator["units"] == "Participants"
        for one in denominator["counts"]
    ]


@ask(
    """
    SELECT t.event_type, t.classification, sum(t.subjects_affected), sum(t.subjects_at_risk)
    FROM reported_event_totals t JOIN studies s ON s.nct_id = t.nct_id
    WHERE s.phase = 'PHASE3' GROUP BY t.event_type, t.classification
    """,
    "sums of events",
    "join on nct_id",
)
def totals_of_events(registry: Registry) -> Rows:
    """reported_event_totals: subjects with any event of a kind, and deaths."""
    kinds = {
        "serious": "Total, serious adverse events",
        "other": "Total, other adverse events",
        "deaths": "Total, all-cause mortality",
    }
    groups = [
        group
        for study in registry.studies
        if study.phase == "PHASE3"
        for group in items(study.json, f"{_RESULTS}.adverseEventsModule.eventGroups")
    ]
    return [
        (
            kind,
            said,
            sum(group.get(f"{kind}NumAffected") or 0 for group in groups),
            sum(group.get(f"{kind}NumAtRisk") or 0 for group in groups),
        )
        for kind, said in kinds.items()
    ]


@ask(
    """
    SELECT s.nct_id, i.id_type, i.id_value, p.event, d.document_type
    FROM id_information i JOIN studies s ON s.nct_id = i.nct_id
    JOIN pending_results p ON p.nct_id = s.nct_id JOIN provided_documents d ON d.nct_id = s.nct_id
    WHERE i.id_source = 'secondary_id'
    """,
    "join on nct_id",
)
def numbers_of_studies_with_pending_results(registry: Registry) -> Rows:
    """id_information with pending_results and provided_documents."""
    events = "annotationSection.annotationModule.unpostedAnnotation.unpostedEvents"
    return [
        (study.nct_id, one.get("type"), one.get("id"), event["type"], document.get("label"))
        for study in registry.studies
        for one in items(study.json, "protocolSection.identificationModule.secondaryIdInfos")
        for event in items(study.json, events)
        for document in items(study.json, "documentSection.largeDocumentModule.largeDocs")
    ]
