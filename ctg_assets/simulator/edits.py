"""What sponsors and the registry change about a study: a catalogue of named edits.

An edit changes the decoded study in place and tells whether it could; on a study of an unusual shape it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.essie import first_and_last_day
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.outline import outline
from ctg_assets.simulator.protocol import Json, organization, phone, post_date, prose
from ctg_assets.simulator.results import COHORTS, cohort, results_section
from ctg_assets.simulator.vocabulary import enum

_STOPPED = ("TERMINATED", "SUSPENDED", "WITHDRAWN")
_UNDER_WAY = (
    "NOT_YET_RECRUITING",
    "RECRUITING",
    "ENROLLING_BY_INVITATION",
    "ACTIVE_NOT_RECRUITING",
)

# What a study of this status usually becomes.
_NEXT_STATUS = {
    "NOT_YET_RECRUITING": "RECRUITING",
    "RECRUITING": "ACTIVE_NOT_RECRUITING",
    "ENROLLING_BY_INVITATION": "ACTIVE_NOT_RECRUITING",
    "ACTIVE_NOT_RECRUITING": "COMPLETED",
    "SUSPENDED": "RECRUITING",
    "UNKNOWN": "COMPLETED",
    "WITHDRAWN": "NOT_YET_RECRUITING",
    "AVAILABLE": "NO_LONGER_AVAILABLE",
    "TEMPORARILY_NOT_AVAILABLE": "AVAILABLE",
    "NO_LONGER_AVAILABLE": "APPROVED_FOR_MARKETING",
}


class EditError(ValueError):
    """An edit that does not exist, or is not possible on a study."""


@dataclass(frozen=True)
class Desk:
    """What is at hand for an edit: dice and the registry's day (an ordinal)."""

    draw: Draw
    day: int


Edit = Callable[[Json, Desk], bool]


def _object(study: Json, *keys: str) -> Json | None:
    """The object at the end of these keys; None where the study holds none there."""
    value: Any = study
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _module(study: Json, name: str) -> Json | None:
    return _object(study, "protocolSection", name)


def _items(study: Json, module: str, key: str) -> list[Any]:
    """The list under a key of a module, to be changed in place; empty where the study has none."""
    items = (_module(study, module) or {}).get(key)
    return items if isinstance(items, list) else []


def _objects(study: Json, module: str, key: str) -> list[Json]:
    """The objects of such a list."""
    return [item for item in _items(study, module, key) if isinstance(item, dict)]


def _add(study: Json, module: str, key: str, item: object) -> bool:
    """Append to a list of a module, or begin it."""
    found = _module(study, module)
    if found is None or not isinstance(found.setdefault(key, []), list):
        return False
    found[key].append(item)
    return True


def _remove(study: Json, desk: Desk, module: str, key: str, keep: int = 0) -> bool:
    """Take one item out of a list that has more than `keep`; a list left empty goes as a whole."""
    items = _items(study, module, key)
    if len(items) <= keep:
        return False
    del items[desk.draw.below(len(items))]
    if not items:
        del study["protocolSection"][module][key]
    return True


def _rotate(study: Json, desk: Desk, module: str, key: str) -> bool:
    """Put the items of a list into another order."""
    items = _items(study, module, key)
    if len(items) < 2 or all(item == items[0] for item in items):
        return False
    by = desk.draw.between(1, len(items) - 1)
    turned = items[by:] + items[:by]
    # Of a list that repeats itself, a turn may be no change.
    if turned == items:
        turned = items[1:] + items[:1]
    items[:] = turned
    return True


def _reword(holder: Json | None, key: str, desk: Desk) -> bool:
    """Add a sentence to a text."""
    if holder is None or not isinstance(holder.get(key), str):
        return False
    holder[key] = f"{holder[key]} {prose(desk.draw, 1)}"
    return True


def _set(holder: Json | None, key: str, value: object) -> bool:
    """Set a value that differs from the one that is there."""
    if holder is None or holder.get(key) == value:
        return False
    holder[key] = value
    return True


def _other(desk: Desk, type_name: str, present: object) -> str:
    """A value of the enumeration other than the present one."""
    return desk.draw.pick([item for item in enum(type_name).values if item != present])


def _overall_status(study: Json) -> str:
    return str((_module(study, "statusModule") or {}).get("overallStatus"))


def _status_moved(study: Json, desk: Desk) -> bool:
    status = _module(study, "statusModule")
    following = _NEXT_STATUS.get(_overall_status(study))
    if status is None or following is None:
        return False
    for key in ("whyStopped", "lastKnownStatus"):
        status.pop(key, None)
    if following == "COMPLETED" and "completionDateStruct" in status:
        status["completionDateStruct"] = {"date": iso(desk.day - 3), "type": "ACTUAL"}
    return _set(status, "overallStatus", following)


def _study_stopped(study: Json, desk: Desk) -> bool:
    status = _module(study, "statusModule")
    if status is None or _overall_status(study) not in _UNDER_WAY:
        return False
    status["whyStopped"] = prose(desk.draw, 1)
    return _set(status, "overallStatus", desk.draw.pick(_STOPPED))


def _status_became_unknown(study: Json, desk: Desk) -> bool:
    """What the registry does when nobody has confirmed a status for two years."""
    del desk
    status = _module(study, "statusModule")
    present = _overall_status(study)
    if status is None or present not in _UNDER_WAY:
        return False
    status["lastKnownStatus"] = present
    return _set(status, "overallStatus", "UNKNOWN")


def _enrollment_changed(study: Json, desk: Desk) -> bool:
    enrollment = _object(study, "protocolSection", "designModule", "enrollmentInfo")
    if enrollment is None:
        return False
    count = enrollment.get("count")
    if not isinstance(count, int) or count == vocabulary.UNKNOWN_ENROLLMENT:
        count = 0
    return _set(enrollment, "count", count + desk.draw.between(1, 200))


def _enrollment_became_actual(study: Json, desk: Desk) -> bool:
    del desk
    enrollment = _object(study, "protocolSection", "designModule", "enrollmentInfo")
    if enrollment is None or enrollment.get("type") == "ACTUAL":
        return False
    return _set(enrollment, "type", "ACTUAL")


def _moved_date(key: str) -> Edit:
    """An edit that moves a date by days up to years, either way; a month or a year stays one."""

    def edit(study: Json, desk: Desk) -> bool:
        struct = _object(study, "protocolSection", "statusModule", key)
        present = str((struct or {}).get("date"))
        days = first_and_last_day(present)
        if struct is None or days is None or len(present) > len("2026-03-02"):
            return False
        by = desk.draw.between(1, 700) * (1 if desk.draw.random() < 0.75 else -1)
        moved = iso(days[0] + by)[: len(present)]
        if moved == present:
            moved = iso(days[1] + 1)[: len(present)]
        struct["type"] = "ACTUAL" if days[0] + by <= desk.day else "ESTIMATED"
        return _set(struct, "date", moved)

    return edit


def _primary_completion_made_exact(study: Json, desk: Desk) -> bool:
    """Name the day of a primary completion of which the month or year was known."""
    keys = ("protocolSection", "statusModule", "primaryCompletionDateStruct")
    struct = _object(study, *keys)
    days = first_and_last_day(str((struct or {}).get("date")))
    if struct is None or days is None or days[0] == days[1]:
        return False
    return _set(struct, "date", iso(desk.draw.between(*days)))


def _primary_completion_withdrawn(study: Json, desk: Desk) -> bool:
    del desk
    status = _module(study, "statusModule")
    return status is not None and status.pop("primaryCompletionDateStruct", None) is not None


def _outcome(desk: Desk) -> Json:
    return {
        "measure": f"{desk.draw.pick(vocabulary.MEASURES)} (amended {iso(desk.day)})",
        "description": prose(desk.draw, 1),
        "timeFrame": desk.draw.pick(vocabulary.TIME_FRAMES),
    }


def _outcome_added(key: str) -> Edit:
    return lambda study, desk: _add(study, "outcomesModule", key, _outcome(desk))


def _outcome_removed(key: str, keep: int) -> Edit:
    return lambda study, desk: _remove(study, desk, "outcomesModule", key, keep)


def _outcome_reworded(key: str) -> Edit:
    def edit(study: Json, desk: Desk) -> bool:
        outcomes = _objects(study, "outcomesModule", key)
        if not outcomes:
            return False
        outcome = desk.draw.pick(outcomes)
        part = desk.draw.pick(("measure", "description", "timeFrame"))
        if part != "measure":
            return _reword(outcome, part, desk)
        # A measure keeps its words, else it would be another one.
        present = outcome.get("measure")
        return isinstance(present, str) and _set(
            outcome, "measure", f"{present}, revised {iso(desk.day)}"
        )

    return edit


def _outcomes_reordered(study: Json, desk: Desk) -> bool:
    return _rotate(study, desk, "outcomesModule", "primaryOutcomes")


def _site_added(study: Json, desk: Desk) -> bool:
    place = desk.draw.skewed(vocabulary.places())
    location: Json = {"facility": desk.draw.pick(vocabulary.facilities())}
    if _overall_status(study) == "RECRUITING":
        location["status"] = desk.draw.weighted(enum("RecruitmentStatus"))
    location |= {"city": place.city, "country": place.country}
    location["geoPoint"] = {"lat": place.lat, "lon": place.lon}
    return _add(study, "contactsLocationsModule", "locations", location)


def _site_removed(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "contactsLocationsModule", "locations")


def _site_edit(change: Callable[[Json, Desk], bool]) -> Edit:
    """An edit of one of the study's sites."""

    def edit(study: Json, desk: Desk) -> bool:
        sites = _objects(study, "contactsLocationsModule", "locations")
        return bool(sites) and change(desk.draw.pick(sites), desk)

    return edit


def _site_status(site: Json, desk: Desk) -> bool:
    return _set(site, "status", _other(desk, "RecruitmentStatus", site.get("status")))


def _site_contact(site: Json, desk: Desk) -> bool:
    name = desk.draw.pick(vocabulary.people())
    contact = {"name": name, "role": "CONTACT", "phone": phone(desk.draw)}
    return _set(site, "contacts", [contact])


def _site_moved(site: Json, desk: Desk) -> bool:
    place = desk.draw.pick(vocabulary.places())
    return _set(site, "geoPoint", {"lat": place.lat, "lon": place.lon})


def _sites_reordered(study: Json, desk: Desk) -> bool:
    return _rotate(study, desk, "contactsLocationsModule", "locations")


def _contact_withdrawn(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "contactsLocationsModule", "centralContacts")


def _sponsor_changed(study: Json, desk: Desk) -> bool:
    sponsor = organization(desk.draw)
    lead = {"name": sponsor.name, "class": sponsor.agency_class}
    return _set(_module(study, "sponsorCollaboratorsModule"), "leadSponsor", lead)


def _collaborator_added(study: Json, desk: Desk) -> bool:
    partner = organization(desk.draw)
    item = {"name": partner.name, "class": partner.agency_class}
    return _add(study, "sponsorCollaboratorsModule", "collaborators", item)


def _collaborator_removed(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "sponsorCollaboratorsModule", "collaborators")


def _arm_added(study: Json, desk: Desk) -> bool:
    if not _items(study, "armsInterventionsModule", "armGroups"):
        return False
    arm = {"label": f"Amended Arm {iso(desk.day)}", "description": prose(desk.draw, 1)}
    return _add(study, "armsInterventionsModule", "armGroups", arm)


def _arm_removed(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "armsInterventionsModule", "armGroups", keep=1)


def _arm_renamed(study: Json, desk: Desk) -> bool:
    """Give an arm another label, there and where interventions name it."""
    arms = _objects(study, "armsInterventionsModule", "armGroups")
    if not arms:
        return False
    arm = desk.draw.pick(arms)
    former = arm.get("label")
    if not isinstance(former, str):
        return False
    arm["label"] = renamed = f"{former}, revised {iso(desk.day)}"
    for intervention in _objects(study, "armsInterventionsModule", "interventions"):
        labels = intervention.get("armGroupLabels")
        if isinstance(labels, list):
            labels[:] = [renamed if label == former else label for label in labels]
    return True


def _intervention_described(study: Json, desk: Desk) -> bool:
    interventions = _objects(study, "armsInterventionsModule", "interventions")
    if not interventions:
        return False
    return _set(desk.draw.pick(interventions), "description", prose(desk.draw, 2))


@cache
def _results(number: int) -> bytes:
    """A results section to post, one of a few."""
    facts = outline(number, 7)
    return msgspec.json.encode(results_section(facts, cohort(number % COHORTS)))


def _results_posted(study: Json, desk: Desk) -> bool:
    status = _module(study, "statusModule")
    if status is None or "resultsSection" in study or "startDateStruct" not in status:
        return False
    study["resultsSection"] = msgspec.json.decode(_results(desk.draw.below(8)))
    study["hasResults"] = True
    status["resultsFirstSubmitDate"] = iso(desk.day - 40)
    status["resultsFirstPostDateStruct"] = post_date(desk.day)
    return True


def _results_withdrawn(study: Json, desk: Desk) -> bool:
    del desk
    return _without_results(study)


def _without_results(study: Json) -> bool:
    if study.pop("resultsSection", None) is None:
        return False
    study["hasResults"] = False
    status = _module(study, "statusModule") or {}
    for key in ("resultsFirstSubmitDate", "resultsFirstSubmitQcDate", "resultsFirstPostDateStruct"):
        status.pop(key, None)
    return True


def _reference_added(study: Json, desk: Desk) -> bool:
    if not isinstance(study.get("protocolSection"), dict):
        return False
    study["protocolSection"].setdefault("referencesModule", {})
    pmid = str(10_000_000 + desk.draw.below(30_000_000))
    reference = {"pmid": pmid, "type": "DERIVED", "citation": prose(desk.draw, 1)}
    return _add(study, "referencesModule", "references", reference)


def _reference_removed(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "referencesModule", "references")


def _reference_retracted(study: Json, desk: Desk) -> bool:
    references = _objects(study, "referencesModule", "references")
    if not references:
        return False
    notice = {"pmid": str(10_000_000 + desk.draw.below(30_000_000)), "source": "J Gen Stud."}
    return _set(desk.draw.pick(references), "retractions", [notice])


def _condition_added(study: Json, desk: Desk) -> bool:
    term = desk.draw.pick(vocabulary.mesh_terms("condition")).term
    return _add(study, "conditionsModule", "conditions", term)


def _keyword_added(study: Json, desk: Desk) -> bool:
    return _add(study, "conditionsModule", "keywords", desk.draw.pick(vocabulary.KEYWORDS))


def _keyword_removed(study: Json, desk: Desk) -> bool:
    return _remove(study, desk, "conditionsModule", "keywords")


def _criteria_reworded(study: Json, desk: Desk) -> bool:
    return _reword(_module(study, "eligibilityModule"), "eligibilityCriteria", desk)


def _maximum_age_changed(study: Json, desk: Desk) -> bool:
    eligibility = _module(study, "eligibilityModule")
    if eligibility is not None and "maximumAge" in eligibility and desk.draw.random() < 0.5:
        del eligibility["maximumAge"]
        return True
    return _set(eligibility, "maximumAge", f"{desk.draw.between(40, 99)} Years")


def _summary_reworded(study: Json, desk: Desk) -> bool:
    return _reword(_module(study, "descriptionModule"), "briefSummary", desk)


def _details_withdrawn(study: Json, desk: Desk) -> bool:
    del desk
    description = _module(study, "descriptionModule")
    return description is not None and description.pop("detailedDescription", None) is not None


def _title_reworded(study: Json, desk: Desk) -> bool:
    """Possible for every study that has an identification, and every one has: its NCT id is there."""
    title = f"{prose(desk.draw, 1)} ({iso(desk.day)})"
    return _set(_module(study, "identificationModule"), "briefTitle", title)


def _secondary_id_added(study: Json, desk: Desk) -> bool:
    item = {"id": f"{desk.draw.below(10_000_000):07d}", "type": "REGISTRY", "domain": "Example"}
    return _add(study, "identificationModule", "secondaryIdInfos", item)


def _document_added(study: Json, desk: Desk) -> bool:
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


def _derived(study: Json) -> Json | None:
    found = study.setdefault("derivedSection", {})
    return found if isinstance(found, dict) else None


def _mesh_terms_changed(study: Json, desk: Desk) -> bool:
    """What the registry's own indexing does when its vocabulary changes; no sponsor submits anything."""
    derived = _derived(study)
    if derived is None:
        return False
    term = desk.draw.pick(vocabulary.mesh_terms("condition"))
    module: Json = {"meshes": [{"id": term.id, "term": term.term}]}
    if term.ancestors:
        module["ancestors"] = [{"id": id_, "term": name} for id_, name in term.ancestors]
    return _set(derived, "conditionBrowseModule", module)


def _mesh_terms_dropped(study: Json, desk: Desk) -> bool:
    del desk
    derived = _object(study, "derivedSection")
    return derived is not None and derived.pop("interventionBrowseModule", None) is not None


def _country_removed(study: Json, desk: Desk) -> bool:
    derived = _derived(study)
    misc = None if derived is None else derived.setdefault("miscInfoModule", {})
    if not isinstance(misc, dict) or not isinstance(misc.setdefault("removedCountries", []), list):
        return False
    misc["removedCountries"].append(desk.draw.pick(vocabulary.places()).country)
    return True


def _sponsor_class_corrected(study: Json, desk: Desk) -> bool:
    lead = _object(study, "protocolSection", "sponsorCollaboratorsModule", "leadSponsor")
    present = None if lead is None else lead.get("class")
    return _set(lead, "class", _other(desk, "AgencyClass", present))


# What the registry changes by itself, hence mostly without a new posting date.
_OF_THE_REGISTRY: Mapping[str, Edit] = {
    "status_became_unknown": _status_became_unknown,
    "mesh_terms_changed": _mesh_terms_changed,
    "mesh_terms_dropped": _mesh_terms_dropped,
    "site_moved": _site_edit(_site_moved),
    "sites_reordered": _sites_reordered,
    "country_removed": _country_removed,
    "sponsor_class_corrected": _sponsor_class_corrected,
    "reference_retracted": _reference_retracted,
}

_OF_SPONSORS: Mapping[str, Edit] = {
    "status_moved": _status_moved,
    "study_stopped": _study_stopped,
    "enrollment_changed": _enrollment_changed,
    "enrollment_became_actual": _enrollment_became_actual,
    "start_moved": _moved_date("startDateStruct"),
    "primary_completion_moved": _moved_date("primaryCompletionDateStruct"),
    "primary_completion_made_exact": _primary_completion_made_exact,
    "primary_completion_withdrawn": _primary_completion_withdrawn,
    "completion_moved": _moved_date("completionDateStruct"),
    "primary_outcome_added": _outcome_added("primaryOutcomes"),
    "primary_outcome_removed": _outcome_removed("primaryOutcomes", keep=1),
    "primary_outcome_reworded": _outcome_reworded("primaryOutcomes"),
    "primary_outcomes_reordered": _outcomes_reordered,
    "secondary_outcome_added": _outcome_added("secondaryOutcomes"),
    "secondary_outcome_removed": _outcome_removed("secondaryOutcomes", keep=0),
    "secondary_outcome_reworded": _outcome_reworded("secondaryOutcomes"),
    "site_added": _site_added,
    "site_removed": _site_removed,
    "site_status_changed": _site_edit(_site_status),
    "site_contact_changed": _site_edit(_site_contact),
    "contact_withdrawn": _contact_withdrawn,
    "sponsor_changed": _sponsor_changed,
    "collaborator_added": _collaborator_added,
    "collaborator_removed": _collaborator_removed,
    "arm_added": _arm_added,
    "arm_removed": _arm_removed,
    "arm_renamed": _arm_renamed,
    "intervention_described": _intervention_described,
    "results_posted": _results_posted,
    "results_withdrawn": _results_withdrawn,
    "reference_added": _reference_added,
    "reference_removed": _reference_removed,
    "condition_added": _condition_added,
    "keyword_added": _keyword_added,
    "keyword_removed": _keyword_removed,
    "criteria_reworded": _criteria_reworded,
    "maximum_age_changed": _maximum_age_changed,
    "summary_reworded": _summary_reworded,
    "details_withdrawn": _details_withdrawn,
    "title_reworded": _title_reworded,
    "secondary_id_added": _secondary_id_added,
    "document_added": _document_added,
}

EDITS: Mapping[str, Edit] = {**_OF_SPONSORS, **_OF_THE_REGISTRY}
"""Every edit by name."""

ALWAYS_POSSIBLE = "title_reworded"
_MOST_EDITS = 3


def edit_at_random(study: Json, desk: Desk, *, by_registry: bool) -> tuple[str, ...]:
    """Change a study by one to three edits; returns their names, at least one.

    What is done by the registry itself is mostly drawn from what it derives, else from what sponsors change.
    """
    count = desk.draw.between(1, _MOST_EDITS)
    of_registry = by_registry and desk.draw.random() < 0.7
    names = list(_OF_THE_REGISTRY if of_registry else _OF_SPONSORS)
    done: list[str] = []
    # Not every edit is possible on every study: half of what is sponsors' does not apply to the average one.
    for _ in range(4 * count):
        name = desk.draw.pick(names)
        if name not in done and len(done) < count and EDITS[name](study, desk):
            done.append(name)
    if not done:
        EDITS[ALWAYS_POSSIBLE](study, desk)
        done.append(ALWAYS_POSSIBLE)
    return tuple(done)


def edit_by_name(study: Json, desk: Desk, names: Iterable[str]) -> None:
    """Apply these edits; raises EditError for one that does not exist or is not possible on this study."""
    for name in names:
        if name not in EDITS:
            message = f"no edit {name!r}; there are {', '.join(EDITS)}"
            raise EditError(message)
        if not EDITS[name](study, desk):
            message = f"edit {name!r} is not possible on this study"
            raise EditError(message)


def post_update(study: Json, day: int) -> bool:
    """Say in the study that its latest change was posted on this day; False where it has no place for that."""
    status = _module(study, "statusModule")
    if status is None:
        return False
    if "statusVerifiedDate" in status:
        status["statusVerifiedDate"] = iso(day - 2)[:7]
    status["lastUpdateSubmitDate"] = iso(day - 2)
    status["lastUpdatePostDateStruct"] = post_date(day)
    return True


def make_new(study: Json, day: int) -> None:
    """Turn a generated study into one that is posted for the first time on this day."""
    _without_results(study)
    protocol = study["protocolSection"]
    protocol["identificationModule"].pop("nctIdAliases", None)
    status = protocol["statusModule"]
    status["studyFirstSubmitDate"] = status["studyFirstSubmitQcDate"] = iso(day - 5)
    status["studyFirstPostDateStruct"] = post_date(day)
    post_update(study, day)


def add_aliases(study: Json, aliases: Iterable[str]) -> None:
    """Note obsolete NCT ids that this study's id now stands for; they come after those it has."""
    identification = study["protocolSection"]["identificationModule"]
    known = identification.get("nctIdAliases")
    merged = [*(known if isinstance(known, list) else ()), *aliases]
    identification["nctIdAliases"] = list(dict.fromkeys(merged))
