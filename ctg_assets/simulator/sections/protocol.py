"""The protocol section of a generated study.

Dictionaries list their keys in the order of the registry's field tree; absent fields are None until
`present` drops them. Locations come encoded from a pool, because building a few hundred of them for
one study would cost more than the rest of the study.
"""

from __future__ import annotations

from ctg_assets.simulator import identity, vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.sections.contacts import contacts_and_locations
from ctg_assets.simulator.sections.design import (
    arms_and_interventions,
    design,
    eligibility,
    outcomes,
)
from ctg_assets.simulator.sections.parts import (
    EXACT_SINCE,
    Json,
    few,
    organization,
    paragraphs,
    partial_date,
    post_date,
    present,
    prose,
)
from ctg_assets.simulator.sections.references import ipd_sharing, references_and_links
from ctg_assets.simulator.vocabulary import Organization, enum


def protocol_section(facts: Outline, arms: tuple[str, ...], enrolled: int | None) -> Json:
    """The protocol section; `arms` and `enrolled` are given when results already name them.

    A withheld study shows next to nothing; expanded access has no design of arms and outcomes.
    """
    if facts.study_type is None:
        return _withheld(facts)
    draw = facts.draw
    sponsor = organization(draw)
    conditions = draw.run(vocabulary.mesh_terms("condition"), few(draw))
    treatments = _treatments(draw)
    names = [name for _, name in treatments]
    section: Json = {
        "identificationModule": _identification(facts, sponsor, names[0], conditions[0].term),
        "statusModule": _status(facts),
        "sponsorCollaboratorsModule": _sponsors(draw, sponsor),
        "oversightModule": _oversight(draw) or None,
        "descriptionModule": present(
            {
                "briefSummary": prose(draw, 1 if facts.terse else draw.between(1, 7)),
                "detailedDescription": None
                if facts.terse
                else (paragraphs(draw) if draw.maybe(0.76) else None),
            }
        ),
        "conditionsModule": present(
            {
                "conditions": [
                    f"{term.term}, Recurrent" if draw.random() < 0.1 else term.term
                    for term in conditions
                ],
                "keywords": draw.run(vocabulary.KEYWORDS, draw.between(1, 8))
                if draw.maybe(0.66)
                else None,
            }
        ),
        "designModule": design(facts, enrolled),
        "armsInterventionsModule": arms_and_interventions(facts, arms, treatments),
        "outcomesModule": None if facts.study_type == "EXPANDED_ACCESS" else outcomes(facts),
        "eligibilityModule": eligibility(facts),
        "contactsLocationsModule": contacts_and_locations(facts, sponsor) or None,
        "referencesModule": references_and_links(draw) or None,
        "ipdSharingStatementModule": ipd_sharing(draw) if draw.maybe(0.55) else None,
    }
    return present(section)


def _withheld(facts: Outline) -> Json:
    return {
        "identificationModule": {
            "nctId": facts.nct_id,
            "orgStudyIdInfo": {"id": "[Redacted]"},
            "briefTitle": "[Trial of device that is not approved or cleared by the U.S. FDA]",
            "organization": {"fullName": "[Redacted]"},
        },
        "statusModule": {
            "overallStatus": "WITHHELD",
            "delayedPosting": True,
            "studyFirstSubmitDate": iso(facts.first_submit),
            "studyFirstSubmitQcDate": iso(facts.first_submit),
            "studyFirstPostDateStruct": post_date(facts.first_post),
            "lastUpdateSubmitDate": iso(max(facts.first_submit, facts.last_update - 3)),
            "lastUpdatePostDateStruct": post_date(facts.last_update),
        },
        "oversightModule": {"isUnapprovedDevice": True},
    }


def _treatments(draw: Draw) -> list[tuple[str, str]]:
    """Interventions as (type, name)."""
    terms = draw.run(vocabulary.mesh_terms("intervention"), min(6, few(draw)))
    found = [(draw.weighted(vocabulary.INTERVENTION_TYPE), term.term) for term in terms]
    if draw.random() < 0.2:
        found.append((found[0][0], "Placebo"))
    return found


def _identification(facts: Outline, sponsor: Organization, treatment: str, condition: str) -> Json:
    draw = facts.draw
    title = f"{treatment} for {condition}"
    alias = identity.alias_of(facts.seed, facts.index)
    number = draw.below(1_000_000)
    grant = f"R01XX{number:06d}"
    link = f"https://grants.example.org/{grant}"
    org_study_id: Json = {"id": f"{sponsor.name[:3].upper()}-{number:06d}"}
    if draw.maybe(0.005):
        org_study_id = {"id": grant, "type": draw.weighted(enum("OrgStudyIdType")), "link": link}
    secondary = [
        present(
            {
                "id": f"{grant}-{place}",
                "type": draw.weighted(enum("SecondaryIdType")) if draw.maybe(0.9) else None,
                "domain": draw.pick(vocabulary.facilities()) if draw.maybe(0.5) else None,
                "link": f"{link}-{place}" if draw.maybe(0.25) else None,
            }
        )
        for place in range(few(draw) if draw.maybe(0.22) else 0)
    ]
    return present(
        {
            "nctId": facts.nct_id,
            "nctIdAliases": [alias] if alias else None,
            "orgStudyIdInfo": org_study_id,
            "secondaryIdInfos": secondary or None,
            "briefTitle": title,
            "officialTitle": f"A {draw.pick(vocabulary.KEYWORDS)} study of {title} in {draw.pick(vocabulary.places()).city}: "
            f"{draw.pick(vocabulary.MEASURES)}"
            if draw.maybe(0.98)
            else None,
            "acronym": f"{treatment[:2]}{condition[:3]}-{number % 97}".upper()
            if draw.maybe(0.3)
            else None,
            "organization": {"fullName": sponsor.name, "class": sponsor.agency_class},
        }
    )


def _status(facts: Outline) -> Json:
    draw = facts.draw
    told = facts.last_update
    first_qc = min(facts.first_post, facts.first_submit + draw.below(4))
    update_submit = max(facts.first_submit, told - draw.between(1, 8))
    expanded: Json = {"hasExpandedAccess": False}
    if draw.maybe(0.01):
        # Another study of the registry; whether it is one of expanded access is not looked up.
        other = identity.nct_id(facts.seed, max(0, facts.index - 1))
        status = draw.weighted(enum("ExpandedAccessStatus"))
        expanded = {"hasExpandedAccess": True, "nctId": other, "statusForNctId": status}
    has_dates = facts.study_type != "EXPANDED_ACCESS"
    fields: Json = {
        "statusVerifiedDate": iso(update_submit)[:7],
        "overallStatus": facts.status,
        "lastKnownStatus": draw.weighted(vocabulary.LAST_KNOWN_STATUS)
        if facts.status == "UNKNOWN"
        else None,
        "delayedPosting": True if draw.maybe(0.0005) else None,
        "whyStopped": prose(draw, 1)
        if facts.status in ("TERMINATED", "WITHDRAWN", "SUSPENDED")
        else None,
        "expandedAccessInfo": expanded,
        "startDateStruct": _partial_struct(draw, facts.start, told) if has_dates else None,
        "primaryCompletionDateStruct": _partial_struct(draw, facts.primary_completion, told)
        if has_dates
        else None,
        "completionDateStruct": _partial_struct(draw, facts.completion, told)
        if has_dates
        else None,
        "studyFirstSubmitDate": iso(facts.first_submit),
        "studyFirstSubmitQcDate": iso(first_qc),
        "studyFirstPostDateStruct": post_date(facts.first_post),
        "resultsWaived": True if facts.is_done and draw.maybe(0.002) else None,
    }
    if facts.results_post:
        submitted = max(facts.first_submit, facts.results_post - draw.between(20, 60))
        fields["resultsFirstSubmitDate"] = iso(submitted)
        fields["resultsFirstSubmitQcDate"] = iso((submitted + facts.results_post) // 2)
        fields["resultsFirstPostDateStruct"] = post_date(facts.results_post)
    if facts.is_done and draw.maybe(0.02):
        delayed = max(facts.first_submit, min(facts.completion, facts.last_update - 9))
        fields["dispFirstSubmitDate"] = iso(delayed)
        fields["dispFirstSubmitQcDate"] = iso(delayed)
        fields["dispFirstPostDateStruct"] = post_date(max(delayed, facts.first_post))
    fields["lastUpdateSubmitDate"] = iso(update_submit)
    fields["lastUpdatePostDateStruct"] = post_date(facts.last_update)
    return present(fields)


def _partial_struct(draw: Draw, day: int, told: int) -> Json:
    # Old studies never said of which type their dates are.
    type_ = "ACTUAL" if day <= told else "ESTIMATED"
    if day < EXACT_SINCE and draw.random() < 0.3:
        return {"date": partial_date(draw, day)}
    return {"date": partial_date(draw, day), "type": type_}


def _sponsors(draw: Draw, sponsor: Organization) -> Json:
    kind = draw.weighted(enum("ResponsiblePartyType"))
    person = draw.pick(vocabulary.people())
    responsible: Json | None = {"type": kind}
    if kind != "SPONSOR":
        responsible = {
            "type": kind,
            "investigatorFullName": person,
            "investigatorTitle": draw.pick(vocabulary.TITLES),
            "investigatorAffiliation": sponsor.name,
        }
    elif draw.maybe(0.1):
        responsible = {"oldNameTitle": f"{person}, Director", "oldOrganization": sponsor.name}
    collaborators = [organization(draw) for _ in range(few(draw) if draw.maybe(0.3) else 0)]
    return present(
        {
            "responsibleParty": responsible,
            "leadSponsor": {"name": sponsor.name, "class": sponsor.agency_class},
            "collaborators": [
                {"name": partner.name, "class": partner.agency_class} for partner in collaborators
            ]
            or None,
        }
    )


def _oversight(draw: Draw) -> Json:
    return present(
        {
            "oversightHasDmc": draw.random() < 0.4 if draw.maybe(0.86) else None,
            "isFdaRegulatedDrug": draw.random() < 0.3 if draw.maybe(0.7) else None,
            "isFdaRegulatedDevice": draw.random() < 0.15 if draw.maybe(0.7) else None,
            "isUnapprovedDevice": True if draw.maybe(0.02) else None,
            "isPpsd": True if draw.maybe(0.001) else None,
            "isUsExport": draw.random() < 0.2 if draw.maybe(0.19) else None,
            "fdaaa801Violation": True if draw.maybe(0.001) else None,
        }
    )
