"""The study summary and ctrdata's concepts of the recorded real studies, against plain Python over their JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.marts.projects import rows
from ctg_assets_tests.model.snapshots import Study, real_studies

PUBLIC = {"NIH", "FED", "OTHER_GOV", "NETWORK"}
LEVELS = {
    "assignment_type": {"R", "NR"},
    "control_type": {"none", "no-treatment", "placebo", "active", "placebo+active", "other"},
    "trial_phase": {f"phase {phases}" for phases in ("1", "1+2", "2", "2+3", "3", "4")},
    "sponsor_type": {"for profit", "not for profit", "mixed", "other"},
    "status_recruitment": {"ongoing", "completed", "ended early", "other"},
    "trial_population_age_group": {"P", "P+A", "P+A+E", "A", "A+E", "E"},
}


def at(study: Study, path: str) -> Any:
    """What a study has at a path, an empty list where it has nothing."""
    found: Any = study
    for name in path.split("."):
        found = found.get(name, {})
    return found or []


def each(study: Study, path: str, name: str) -> list[Any]:
    """One field of every item of a list."""
    return [item.get(name) for item in at(study, path)]


def sponsors(study: Study) -> list[Mapping[str, str]]:
    """The lead sponsor and the collaborators."""
    module = study["protocolSection"].get("sponsorCollaboratorsModule", {})
    return [module.get("leadSponsor", {}), *module.get("collaborators", [])]


def lists(study: Study) -> dict[str, list[Any]]:
    """The lists of a study's summary, by column."""
    protocol, derived = study["protocolSection"], study.get("derivedSection", {})
    arms = "armsInterventionsModule"
    return {
        "conditions": at(protocol, "conditionsModule.conditions"),
        "keywords": at(protocol, "conditionsModule.keywords"),
        "interventions": each(protocol, f"{arms}.interventions", "name"),
        "intervention_types": each(protocol, f"{arms}.interventions", "type"),
        "arms": each(protocol, f"{arms}.armGroups", "label"),
        "arm_types": each(protocol, f"{arms}.armGroups", "type"),
        "collaborators": [sponsor.get("name") for sponsor in sponsors(study)[1:]],
        "collaborator_classes": [sponsor.get("class") for sponsor in sponsors(study)[1:]],
        "secondary_ids": each(protocol, "identificationModule.secondaryIdInfos", "id"),
        "nct_aliases": at(protocol, "identificationModule.nctIdAliases"),
        "officials": each(protocol, "contactsLocationsModule.overallOfficials", "name"),
        "condition_mesh_terms": each(derived, "conditionBrowseModule.meshes", "term"),
        "condition_mesh_ancestors": each(derived, "conditionBrowseModule.ancestors", "term"),
        "intervention_mesh_terms": each(derived, "interventionBrowseModule.meshes", "term"),
        "intervention_mesh_ancestors": each(derived, "interventionBrowseModule.ancestors", "term"),
        "primary_outcomes": each(protocol, "outcomesModule.primaryOutcomes", "measure"),
        "primary_outcome_time_frames": each(
            protocol, "outcomesModule.primaryOutcomes", "timeFrame"
        ),
        "secondary_outcomes": each(protocol, "outcomesModule.secondaryOutcomes", "measure"),
        "secondary_outcome_time_frames": each(
            protocol, "outcomesModule.secondaryOutcomes", "timeFrame"
        ),
        "removed_countries": at(derived, "miscInfoModule.removedCountries"),
    }


def funding_class(classes: list[str | None]) -> str:
    """CTTI's funding class of the classes of lead sponsor and collaborators."""
    if classes[0] == "NIH" or ("NIH" in classes and "INDUSTRY" not in classes):
        return "NIH"
    return "INDUSTRY" if "INDUSTRY" in classes else "OTHER"


def edits(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for above, letter in enumerate(one, 1):
        previous, row[0] = row[0], above
        for place, opposite in enumerate(other, 1):
            changed = previous + (letter != opposite)
            previous = row[place]
            row[place] = min(row[place] + 1, row[place - 1] + 1, changed)
    return row[-1]


def test_arms(arms: list[Mapping[str, str]]) -> int | None:
    """How many labels of experimental arms are less than 0.8 similar to all others, at least one."""
    labels = [arm["label"].lower() for arm in arms if arm.get("type") == "EXPERIMENTAL"]
    if not labels:
        return None
    alike = {
        number
        for pair in combinations(range(len(labels)), 2)
        for one, other in [(labels[pair[0]], labels[pair[1]])]
        if 5 * edits(one, other) <= max(len(one), len(other))
        for number in pair
    }
    return max(len(labels) - len(alike), 1)


test_arms.__test__ = False  # type: ignore[attr-defined]


def years(age: str | None) -> float | None:
    """An age limit such as 18 Years or 6 Months in years."""
    if age is None:
        return None
    number, unit = age.split()
    lengths = {"Year": 1, "Month": 1 / 12, "Week": 7 / 365.25, "Day": 1 / 365.25}
    return float(number) * lengths.get(unit.removesuffix("s"), 0)


def age_group(minimum: float | None, maximum: float | None) -> str:
    """The age groups between two limits, of which one that is missing is open."""
    youngest, oldest = minimum or 0, 999 if maximum is None else maximum
    groups = {"P": youngest < 18, "A": youngest < 65 and oldest >= 18, "E": oldest >= 65}
    return "+".join(group for group, holds in groups.items() if holds)


def control_type(types: set[str]) -> str | None:
    """What the experimental arms are compared with."""
    placebo = types & {"PLACEBO_COMPARATOR", "SHAM_COMPARATOR"}
    if placebo and "ACTIVE_COMPARATOR" in types:
        return "placebo+active"
    for name, holds in (
        ("placebo", placebo),
        ("active", "ACTIVE_COMPARATOR" in types),
        ("other", "OTHER" in types),
        ("no-treatment", "NO_INTERVENTION" in types),
        ("none", types),
    ):
        if holds:
            return name
    return None


def sponsor_type(classes: list[str | None]) -> str:
    """Who is behind a study, by the classes of lead sponsor and collaborators."""
    if "INDUSTRY" in classes and PUBLIC.intersection(classes):
        return "mixed"
    if classes[0] == "INDUSTRY":
        return "for profit"
    return "not for profit" if classes[0] in PUBLIC else "other"


def status_recruitment(status: str) -> str:
    """A study's course by its status."""
    if status in {"COMPLETED", "TERMINATED"}:
        return {"COMPLETED": "completed", "TERMINATED": "ended early"}[status]
    waiting = {"SUSPENDED", "TEMPORARILY_NOT_AVAILABLE"}
    if status in waiting | {"RECRUITING", "ENROLLING_BY_INVITATION", "AVAILABLE"}:
        return "ongoing"
    return "other"


def first_analysis(study: Study) -> tuple[float | None, int | None]:
    """P value and size of the first analysis of the first primary outcome measure."""
    measures = at(study, "resultsSection.outcomeMeasuresModule.outcomeMeasures")
    [primary, *_] = [measure for measure in measures if measure["type"] == "PRIMARY"] or [{}]
    [analysis, *_] = primary.get("analyses") or [{}]
    number = re.search(r"\d*\.?\d+(?:[eE]-?\d+)?", analysis.get("pValue", ""))
    if not number:
        return None, None
    counts = primary["denoms"][0]["counts"] if "denoms" in primary else []
    compared = [count for count in counts if count["groupId"] in analysis.get("groupIds", [])]
    return float(number[0]), sum(int(count["value"]) for count in compared) or None


def related_trials(study: Study) -> list[str]:
    """Numbers of this registry that a study gives as ids, and its study of expanded access; not its own."""
    identification = study["protocolSection"]["identificationModule"]
    ids = [
        identification.get("orgStudyIdInfo", {}).get("id", ""),
        *(other.get("id", "") for other in identification.get("secondaryIdInfos", [])),
    ]
    found = {number[0] for text in ids if (number := re.search(r"NCT[0-9]{8}", text))}
    access = at(study, "protocolSection.statusModule.expandedAccessInfo.nctId")
    return sorted((found | {access or identification["nctId"]}) - {identification["nctId"]})


def concepts(study: Study) -> dict[str, Any]:
    """The concepts of a study that plain Python can tell from its JSON."""
    protocol = study["protocolSection"]
    design = protocol.get("designModule", {})
    allocation = design.get("designInfo", {}).get("allocation")
    arms = at(protocol, "armsInterventionsModule.armGroups")
    kinds = each(protocol, "armsInterventionsModule.interventions", "type")
    phases = [phase[-1] for phase in design.get("phases", []) if phase != "NA"]
    eligibility = protocol.get("eligibilityModule", {})
    classes = [sponsor.get("class") for sponsor in sponsors(study)]
    status = protocol["statusModule"]
    p_value, size = first_analysis(study)
    cities = [site for site in at(protocol, "contactsLocationsModule.locations") if "city" in site]
    enrollment = design.get("enrollmentInfo", {}).get("count")
    identification = protocol["identificationModule"]
    return {
        "assignment_type": allocation and ("R" if allocation == "RANDOMIZED" else "NR"),
        "control_type": control_type({arm["type"] for arm in arms if "type" in arm}),
        "num_test_arms_substances": test_arms(arms),
        "is_med_interv_trial": (
            design.get("studyType") == "INTERVENTIONAL" and bool({"DRUG", "BIOLOGICAL"} & {*kinds})
            if kinds
            else None
        ),
        "trial_phase": "phase " + "+".join(phases) if phases else None,
        "sponsor_type": sponsor_type(classes),
        "sample_size": enrollment if enrollment not in {0, 99999999} else None,
        "num_sites": len(cities) or None,
        "trial_population_age_group": age_group(
            years(eligibility.get("minimumAge")), years(eligibility.get("maximumAge"))
        ),
        "status_recruitment": status_recruitment(status["overallStatus"]),
        "has_results": study["hasResults"]
        or "resultsFirstSubmitDate" in status
        or "RESULT" in each(protocol, "referencesModule.references", "type"),
        "primary_endpoint_description": [
            " == ".join(
                outcome[part] for part in ("measure", "description", "timeFrame") if part in outcome
            )
            for outcome in at(protocol, "outcomesModule.primaryOutcomes")
        ],
        "primary_endpoint_first_pvalue": p_value,
        "primary_endpoint_first_psize": size,
        "trial_title": identification.get("officialTitle") or identification.get("briefTitle"),
        "likely_related_trials": related_trials(study),
    }


def pairs(address: PostgresAddress, mart: str) -> Iterator[tuple[Study, dict[str, Any]]]:
    """Each recorded study with its row of a mart."""
    studies, _ = real_studies()
    found = {row["nct_id"]: row for row in rows(address, f"SELECT * FROM marts.{mart}")}
    assert len(found) == len(studies) > 3000
    for study in studies:
        yield study, found[study["protocolSection"]["identificationModule"]["nctId"]]


def test_a_summary_has_the_lists_of_its_record(recorded: PostgresAddress) -> None:
    """Each list has the record's items in their order; its text, split at bars, has as many."""
    for study, row in pairs(recorded, "study_summary"):
        for column, items in lists(study).items():
            assert row[column] == items, (row["nct_id"], column)
            text = "|".join((item or "").replace("|", "/") for item in items)
            assert row[f"{column}_text"] == (text or None), (row["nct_id"], column)
        countries = at(study, "protocolSection.contactsLocationsModule.locations")
        assert {*row["countries"]} == {site["country"] for site in countries if "country" in site}
        assert row["is_multinational"] == (len(row["countries"]) > 1)
        recruiting = [site for site in countries if site.get("status") == "RECRUITING"]
        assert row["recruiting_site_count"] == len(recruiting)
        classes = [sponsor.get("class") for sponsor in sponsors(study)]
        assert row["funding_class"] == funding_class(classes)


def test_concepts_are_those_of_plain_python(recorded: PostgresAddress) -> None:
    """Each concept is what its rule makes of the record's JSON; age groups are told from the limits here."""
    differing: dict[str, list[tuple[str, Any, Any]]] = {}
    for study, row in pairs(recorded, "fct_trial_concept"):
        for column, expected in concepts(study).items():
            if row[column] != expected:
                differing.setdefault(column, []).append((row["nct_id"], row[column], expected))
    assert differing == {}, {k: (len(v), v[:4]) for k, v in differing.items()}


def test_levels_are_those_declared(recorded: PostgresAddress) -> None:
    """No concept has another level; all occur among real studies, and objectives come in one order."""
    table = rows(recorded, "SELECT * FROM marts.fct_trial_concept")
    for column, levels in LEVELS.items():
        assert {row[column] for row in table} - {None} == levels, column
    order = ["E", "S", "PD", "PK", "LT", "FU", "A", "D"]
    found = [row["trial_objectives"].split() for row in table if row["trial_objectives"]]
    assert all(letters == sorted(letters, key=order.index) for letters in found)
    assert {letter for letters in found for letter in letters} == {*order}
    medicine = [row for row in table if row["is_med_interv_trial"]]
    assert len(found) == sum(row["trial_objectives"] is not None for row in medicine)
