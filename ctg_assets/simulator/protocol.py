"""The protocol section of a generated study.

Dictionaries list their keys in the order of the registry's field tree; absent fields are None until
`present` drops them. Locations come encoded from a pool, because building a few hundred of them for
one study would cost more than the rest of the study.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Any

import msgspec

from ctg_assets.simulator import identity, vocabulary
from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.vocabulary import Organization, enum

Json = dict[str, Any]

# Since then the registry asks for the day of a start or completion, before for the month only; and since then it
# notes when it posted something.
_EXACT_SINCE = date(2017, 1, 18).toordinal()
_LOCATION_POOL = 3000
_REFERENCE_POOL = 3000
_RETRACTED_EVERY = 750
_PARAGRAPHS = Weighted({1: 40, 2: 26, 4: 18, 7: 9, 12: 5, 24: 2})


def present(fields: Json) -> Json:
    """The fields without those that are None."""
    return {key: value for key, value in fields.items() if value is not None}


def prose(draw: Draw, count: int) -> str:
    """This many made-up sentences as one paragraph."""
    return draw.pick(vocabulary.prose_pool(count))


def paragraphs(draw: Draw) -> str:
    """Made-up prose of skewed length, in paragraphs as Markdown has them."""
    return "\n\n".join(prose(draw, draw.between(2, 6)) for _ in range(draw.weighted(_PARAGRAPHS)))


def partial_date(draw: Draw, day: int) -> str:
    """The day as the registry's PartialDate: a day, a month, or rarely just a year."""
    share = draw.random()
    if share < (0.12 if day >= _EXACT_SINCE else 0.85):
        return iso(day)[:7]
    return iso(day)[:4] if share > 0.99 else iso(day)


def post_date(day: int) -> Json:
    """A posting day with its type: the registry has the actual days since 2017 and estimates before."""
    return {"date": iso(day), "type": "ACTUAL" if day >= _EXACT_SINCE else "ESTIMATED"}


def organization(draw: Draw) -> Organization:
    """An invented organization; few of them sponsor most studies."""
    return draw.skewed(vocabulary.organizations()[draw.weighted(vocabulary.AGENCY_CLASS)])


def phone(draw: Draw) -> str:
    """A phone number of the range reserved for fiction."""
    return f"555-01{draw.below(100):02d}"


def email(name: str) -> str:
    """An address under the domain reserved for examples."""
    given, _, rest = name.partition(" ")
    surname = rest.partition(",")[0].partition(" ")[0]
    return f"{given}.{surname}@example.org".lower().encode("ascii", "ignore").decode()


def protocol_section(facts: Outline, arms: tuple[str, ...], enrolled: int | None) -> Json:
    """The protocol section; `arms` and `enrolled` are given when results already name them.

    A withheld study shows next to nothing; expanded access has no design of arms and outcomes.
    """
    if facts.study_type is None:
        return _withheld(facts)
    draw = facts.draw
    sponsor = organization(draw)
    conditions = draw.run(vocabulary.mesh_terms("condition"), _few(draw))
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
        "designModule": _design(facts, enrolled),
        "armsInterventionsModule": _arms(facts, arms, treatments),
        "outcomesModule": None if facts.study_type == "EXPANDED_ACCESS" else _outcomes(facts),
        "eligibilityModule": _eligibility(facts),
        "contactsLocationsModule": _contacts(facts, sponsor) or None,
        "referencesModule": _references(draw) or None,
        "ipdSharingStatementModule": _ipd_sharing(draw) if draw.maybe(0.55) else None,
    }
    return present(section)


def _few(draw: Draw) -> int:
    """A count like that of conditions or interventions: mostly one, seldom more than five."""
    return min(12, int(1 / (1 - draw.random()) ** 0.7))


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
    terms = draw.run(vocabulary.mesh_terms("intervention"), min(6, _few(draw)))
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
        for place in range(_few(draw) if draw.maybe(0.22) else 0)
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
    if day < _EXACT_SINCE and draw.random() < 0.3:
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
    collaborators = [organization(draw) for _ in range(_few(draw) if draw.maybe(0.3) else 0)]
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


def _design(facts: Outline, enrolled: int | None) -> Json:
    draw = facts.draw
    count = draw.pick(vocabulary.ENROLLMENTS) + draw.below(3) if enrolled is None else enrolled
    if facts.status == "WITHDRAWN":
        count = 0
    elif enrolled is None and (
        draw.random() < 0.0002 or (draw.complete and facts.status == "UNKNOWN")
    ):
        count = vocabulary.UNKNOWN_ENROLLMENT
    enrollment = {
        "count": count,
        "type": "ACTUAL" if facts.completion <= facts.last_update else "ESTIMATED",
    }
    if facts.study_type == "EXPANDED_ACCESS":
        return present(
            {
                "studyType": facts.study_type,
                "nPtrsToThisExpAccNctId": draw.between(1, 4) if draw.maybe(0.5) else None,
                "expandedAccessTypes": {
                    kind: True
                    for kind in ("individual", "intermediate", "treatment")
                    if draw.maybe(0.4)
                }
                or None,
            }
        )
    if facts.study_type == "OBSERVATIONAL":
        registry = draw.maybe(0.15)
        return present(
            {
                "studyType": facts.study_type,
                "patientRegistry": registry,
                "targetDuration": f"{draw.between(2, 10)} {draw.pick(('Years', 'Months', 'Weeks', 'Days'))}"
                if registry
                else None,
                "designInfo": {
                    "observationalModel": draw.weighted(enum("ObservationalModel")),
                    "timePerspective": draw.weighted(enum("DesignTimePerspective")),
                },
                "bioSpec": {
                    "retention": draw.weighted(enum("BioSpecRetention")),
                    "description": prose(draw, 1),
                }
                if draw.maybe(0.3)
                else None,
                "enrollmentInfo": enrollment,
            }
        )
    phases = draw.weighted(vocabulary.PHASES)
    masking = draw.weighted(enum("DesignMasking"))
    return {
        "studyType": facts.study_type,
        "phases": list(phases),
        "designInfo": present(
            {
                "allocation": draw.weighted(enum("DesignAllocation")),
                "interventionModel": draw.weighted(enum("InterventionalAssignment")),
                "interventionModelDescription": prose(draw, 2) if draw.maybe(0.2) else None,
                "primaryPurpose": draw.weighted(enum("PrimaryPurpose")),
                "maskingInfo": present(
                    {
                        "masking": masking,
                        "maskingDescription": prose(draw, 1) if draw.maybe(0.1) else None,
                        "whoMasked": draw.several(enum("WhoMasked").values, 4)
                        if masking != "NONE" or draw.complete
                        else None,
                    }
                ),
            }
        ),
        "enrollmentInfo": enrollment,
    }


def _arms(facts: Outline, arms: tuple[str, ...], treatments: list[tuple[str, str]]) -> Json:
    draw = facts.draw
    labels = list(arms) or draw.run(vocabulary.ARM_LABELS, min(5, 1 + _few(draw)))
    if draw.random() < 0.01:
        # The registry does not refuse two arms of the same label, so such studies exist.
        labels.append(labels[0])
    typed = [f"{kind.replace('_', ' ').title()}: {name}" for kind, name in treatments]
    if facts.study_type == "EXPANDED_ACCESS":
        groups = None
    else:
        groups = [
            present(
                {
                    "label": label,
                    "type": draw.weighted(enum("ArmGroupType"))
                    if facts.study_type == "INTERVENTIONAL"
                    else None,
                    "description": prose(draw, draw.between(1, 2))
                    if not facts.terse and draw.maybe(0.9)
                    else None,
                    "interventionNames": [typed[place % len(typed)]] if draw.maybe(0.95) else None,
                }
            )
            for place, label in enumerate(labels)
        ]
    interventions = [
        present(
            {
                "type": kind,
                "name": name,
                "description": prose(draw, draw.between(1, 3))
                if not facts.terse and draw.maybe(0.9)
                else None,
                "armGroupLabels": labels[place :: len(treatments)] or None if groups else None,
                "otherNames": [
                    f"{name} {suffix}" for suffix in ("hydrochloride", "®", "generic")[: _few(draw)]
                ]
                if draw.maybe(0.3)
                else None,
            }
        )
        for place, (kind, name) in enumerate(treatments)
    ]
    return present({"armGroups": groups, "interventions": interventions})


@cache
def _outcome_pool() -> tuple[msgspec.Raw, ...]:
    draw = Draw(8)
    return tuple(
        msgspec.Raw(
            msgspec.json.encode(
                present(
                    {
                        "measure": f"{measure} ({place})",
                        "description": prose(draw, draw.between(1, 3)) if place % 4 else None,
                        "timeFrame": draw.pick(vocabulary.TIME_FRAMES),
                    }
                )
            )
        )
        for place in range(1, 100)
        for measure in vocabulary.MEASURES
    )


def _outcomes(facts: Outline) -> Json:
    draw = facts.draw
    pool = _outcome_pool()
    return present(
        {
            "primaryOutcomes": draw.run(pool, _few(draw)),
            "secondaryOutcomes": draw.run(pool, draw.heavy(2.8, 120))
            if not facts.terse and draw.maybe(0.9)
            else None,
            "otherOutcomes": draw.run(pool, draw.heavy(3, 80)) if draw.maybe(0.08) else None,
        }
    )


def _eligibility(facts: Outline) -> Json:
    draw = facts.draw
    minimum = draw.weighted(vocabulary.MINIMUM_AGE) if draw.maybe(0.94) else None
    maximum = draw.weighted(vocabulary.MAXIMUM_AGE) if draw.maybe(0.55) else None
    if minimum and maximum and minimum[1] > maximum[1]:
        maximum = None
    youngest = minimum[1] if minimum else 0.0
    oldest = maximum[1] if maximum else 200.0
    ages = [
        name
        for name, low, high in (("CHILD", 0, 18), ("ADULT", 18, 65), ("OLDER_ADULT", 65, 200))
        if youngest < high and oldest >= low
    ]
    items = vocabulary.criteria()
    inclusion = "\n".join(draw.run(items, 2 if facts.terse else draw.heavy(3.5, 40)))
    exclusion = "\n".join(draw.run(items, 2 if facts.terse else draw.heavy(4.5, 50)))
    gender_based = draw.maybe(0.015)
    observational = facts.study_type == "OBSERVATIONAL"
    return present(
        {
            "eligibilityCriteria": f"Inclusion Criteria:\n\n{inclusion}\n\nExclusion Criteria:\n\n{exclusion}",
            "healthyVolunteers": draw.random() < 0.25 if draw.maybe(0.98) else None,
            "sex": draw.weighted(vocabulary.SEX),
            "genderBased": True if gender_based else None,
            "genderDescription": prose(draw, 1) if gender_based else None,
            "minimumAge": minimum[0] if minimum else None,
            "maximumAge": maximum[0] if maximum else None,
            "stdAges": ages,
            "studyPopulation": prose(draw, 2) if observational else None,
            "samplingMethod": draw.weighted(enum("SamplingMethod")) if observational else None,
        }
    )


def _contact(draw: Draw, role: str) -> Json:
    name = draw.pick(vocabulary.people())
    return present(
        {
            "name": name,
            "role": role,
            "phone": phone(draw) if draw.maybe(0.9) else None,
            "phoneExt": str(draw.below(900)) if draw.maybe(0.1) else None,
            "email": email(name) if draw.maybe(0.9) else None,
        }
    )


@cache
def _location_pool(*, recruiting: bool) -> tuple[msgspec.Raw, ...]:
    """Encoded locations; only those of studies that recruit have a status and contacts."""
    draw = Draw(9 + recruiting)
    statuses = enum("RecruitmentStatus")
    roles = enum("ContactRole")
    encoded = []
    for number in range(_LOCATION_POOL):
        place = draw.skewed(vocabulary.places())
        contacts = [_contact(draw, draw.weighted(roles)) for _ in range(draw.between(1, 2))]
        location = {
            "facility": draw.pick(vocabulary.facilities()) if draw.maybe(0.97) else None,
            "status": draw.weighted(statuses) if recruiting else None,
            "city": place.city,
            "state": place.state or None,
            "zip": f"{draw.below(100_000):05d}" if draw.maybe(0.8) else None,
            "country": place.country,
            "contacts": contacts if recruiting and number % 3 else None,
            "geoPoint": {"lat": place.lat, "lon": place.lon} if draw.maybe(0.98) else None,
        }
        encoded.append(msgspec.Raw(msgspec.json.encode(present(location))))
    return tuple(encoded)


def _contacts(facts: Outline, sponsor: Organization) -> Json:
    draw = facts.draw
    recruiting = facts.status in ("RECRUITING", "NOT_YET_RECRUITING", "AVAILABLE")
    central = (
        [_contact(draw, "CONTACT") for _ in range(draw.between(1, 2))]
        if recruiting and draw.maybe(0.9)
        else None
    )
    officials = [
        {
            "name": draw.pick(vocabulary.people()),
            "affiliation": sponsor.name,
            "role": draw.weighted(enum("OfficialRole")),
        }
        for _ in range(min(5, _few(draw)) if draw.maybe(0.72) else 0)
    ]
    locations = None
    if draw.maybe(0.9):
        # Most studies have one place, one in a hundred more than a hundred.
        count = 1 if draw.random() < 0.6 else draw.heavy(4, 700)
        locations = draw.run(_location_pool(recruiting=recruiting), count)
    return present(
        {"centralContacts": central, "overallOfficials": officials or None, "locations": locations}
    )


@cache
def _reference_pool() -> tuple[msgspec.Raw, ...]:
    draw = Draw(12)
    encoded = []
    for number in range(_REFERENCE_POOL):
        pmid = 10_000_000 + draw.below(30_000_000)
        year = draw.between(1985, 2025)
        citation = (
            f"{draw.pick(vocabulary.people())}. {draw.pick(vocabulary.MEASURES)}: {prose(draw, 1)} "
            f"J Gen Stud. {year};{draw.below(90)}({draw.below(12)}):{draw.below(900)}-9."
        )
        retractions = [{"pmid": str(pmid + 1), "source": f"J Gen Stud. {year + 1};1(1):1"}]
        reference = {
            "pmid": str(pmid) if draw.maybe(0.95) else None,
            "type": draw.weighted(enum("ReferenceType")),
            "citation": citation,
            "retractions": retractions if number % _RETRACTED_EVERY == 0 else None,
        }
        encoded.append(msgspec.Raw(msgspec.json.encode(present(reference))))
    return tuple(encoded)


def _references(draw: Draw) -> Json:
    references = draw.run(_reference_pool(), draw.heavy(2, 90)) if draw.maybe(0.35) else []
    if draw.complete:
        references.append(_reference_pool()[0])
    links = [
        {"label": prose(draw, 1), "url": f"https://www.example.org/{draw.below(10_000)}"}
        for _ in range(_few(draw) if draw.maybe(0.15) else 0)
    ]
    data_sets = [
        {
            "id": f"EX-{draw.below(10_000)}",
            "type": draw.pick(
                ("Individual Participant Data Set", "Study Protocol", "Analytic Code")
            ),
            "url": "https://data.example.org",
            "comment": prose(draw, 1),
        }
        for _ in range(_few(draw) if draw.maybe(0.01) else 0)
    ]
    return present(
        {
            "references": references or None,
            "seeAlsoLinks": links or None,
            "availIpds": data_sets or None,
        }
    )


def _ipd_sharing(draw: Draw) -> Json:
    sharing = draw.weighted(enum("IpdSharing"))
    if sharing != "YES" and not draw.complete:
        return present(
            {"ipdSharing": sharing, "description": prose(draw, 1) if draw.random() < 0.3 else None}
        )
    return {
        "ipdSharing": sharing,
        "description": prose(draw, 2),
        "infoTypes": draw.several(enum("IpdSharingInfoType").values, 5),
        "timeFrame": prose(draw, 1),
        "accessCriteria": prose(draw, 1),
        "url": "https://data.example.org/access",
    }
