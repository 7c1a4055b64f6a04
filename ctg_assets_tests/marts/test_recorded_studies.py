"""The marts of the recorded real studies, some of them compared with the studies' JSON row by row."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.marts.projects import values
from ctg_assets_tests.model.snapshots import Study, real_studies

# The highest terms of MeSH's categories of diseases (C01 to C26, F03), and the one that stands for mental
# disorders where no other does. The registry has named all of them since late 2025.
AREAS = {
    **{
        term: term
        for term in (
            *("Infections", "Neoplasms", "Musculoskeletal Diseases", "Digestive System Diseases"),
            *("Stomatognathic Diseases", "Respiratory Tract Diseases"),
            *("Otorhinolaryngologic Diseases", "Nervous System Diseases", "Eye Diseases"),
            *("Cardiovascular Diseases", "Hemic and Lymphatic Diseases", "Urogenital Diseases"),
            "Congenital, Hereditary, and Neonatal Diseases and Abnormalities",
            *("Skin and Connective Tissue Diseases", "Nutritional and Metabolic Diseases"),
            *("Endocrine System Diseases", "Immune System Diseases", "Occupational Diseases"),
            *("Pathological Conditions, Signs and Symptoms", "Chemically-Induced Disorders"),
            *("Wounds and Injuries", "Mental Disorders"),
        )
    },
    "Behavioral Symptoms": "Mental Disorders",
}
FIRST_WITH_ALL_AREAS = "2025-09"


def test_facts_and_dimensions_agree_with_staging(recorded: PostgresAddress) -> None:
    """Real studies, odd ones included, have as many members in facts and dimensions as entries in staging."""
    for fact, table in (
        ("sponsor", "sponsors"),
        ("condition", "conditions"),
        ("intervention", "interventions"),
        ("site", "facilities"),
    ):
        statement = (
            f"SELECT (SELECT count(*) FROM staging.{table}),"
            f" (SELECT count(*) FROM marts.fct_study_{fact}),"
            f" (SELECT count(DISTINCT {fact}_key) FROM marts.fct_study_{fact}),"
            f" (SELECT count(*) FROM marts.dim_{fact}),"
            f" (SELECT sum({fact}_count) FROM marts.dim_study)"
        )
        [(listed, fact_rows, members_used, members, counted)] = values(recorded, statement)
        assert listed == fact_rows == counted
        assert members_used == members > 0


def browse_terms(study: Study, kind: str) -> tuple[set[str], set[str]]:
    """The terms that were assigned, and those that only stand above them."""
    module = study.get("derivedSection", {}).get(f"{kind}BrowseModule", {})
    own, above = (
        {entry["term"] for entry in module.get(name, [])} for name in ("meshes", "ancestors")
    )
    return own, above


def test_terms_and_areas_are_those_of_the_records(recorded: PostgresAddress) -> None:
    """Every study has each of its MeSH terms once, and the areas of its conditions; the dimension counts them."""
    studies, _ = real_studies()
    terms, areas = set(), set()
    older = set()
    for study in studies:
        nct_id = study["nct_id"]
        version = study["derivedSection"]["miscInfoModule"]["versionHolder"]
        if version < FIRST_WITH_ALL_AREAS:
            older.add(nct_id)
        for kind in ("condition", "intervention"):
            own, above = ({term.lower() for term in part} for part in browse_terms(study, kind))
            terms |= {(nct_id, kind, term, "own") for term in own}
            terms |= {(nct_id, kind, term, "ancestor") for term in above - own}
        own, above = browse_terms(study, "condition")
        areas |= {(nct_id, AREAS[term]) for term in (own | above) & AREAS.keys()}
    fact = "SELECT nct_id, kind, downcase_mesh_term, relation FROM marts.fct_study_mesh_term"
    found = values(recorded, fact)
    assert set(found) == terms
    assert len(found) == len(terms)
    found_areas = set(
        values(recorded, "SELECT nct_id, therapeutic_area FROM marts.fct_study_therapeutic_area")
    )
    assert areas <= found_areas
    # Older records lack some of the highest terms, for which those below them stand.
    assert {nct_id for nct_id, _ in found_areas - areas} <= older
    counted = values(
        recorded,
        "SELECT downcase_mesh_term, condition_studies_own, condition_studies,"
        " intervention_studies_own, intervention_studies FROM marts.dim_mesh_term",
    )
    uses = Counter((kind, term, relation) for _, kind, term, relation in terms)

    def counts(kind: str, term: str) -> tuple[int, int]:
        own = uses[kind, term, "own"]
        return own, own + uses[kind, term, "ancestor"]

    assert sorted(counted) == sorted(
        (term, *counts("condition", term), *counts("intervention", term))
        for term in {term for _, _, term, _ in terms}
    )


def read(text: str | None) -> tuple[float | None, str | None, str | None]:
    """A text as number, sign or word before it, and status, by the few forms that real studies have."""
    if text is None:
        return None, None, None
    if re.fullmatch(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?", text):
        text = text.replace(",", "")
    sign, number = re.fullmatch(r"([<>=]?)\s*(.*)", html.unescape(text).strip()).groups()  # type: ignore[union-attr]
    try:
        return float(number), sign or None, "qualified" if sign else "number"
    except ValueError:
        is_word = text in {"NA", "NE"}
        return None, text if is_word else None, "not available" if is_word else "unparsed"


def outcomes(studies: Sequence[Study]) -> Iterator[tuple[str, Study]]:
    """Outcome measures of the results, each with its study's id."""
    for study in studies:
        module = study.get("resultsSection", {}).get("outcomeMeasuresModule", {})
        for outcome in module.get("outcomeMeasures", []):
            yield study["nct_id"], outcome


def analyzed(denominators: Sequence[Mapping[str, Any]], group: str) -> int | None:
    """Participants of a group among the denominators of an outcome or class."""
    for denominator in denominators:
        for count in denominator["counts"]:
            if denominator["units"] == "Participants" and count["groupId"] == group:
                return int(count["value"].replace(",", ""))
    return None


def test_outcome_results_are_those_of_the_records(recorded: PostgresAddress) -> None:
    """Every value has its number or status, spread, group and participants as the study's JSON has them."""
    studies, _ = real_studies()
    expected: Counter[tuple[Any, ...]] = Counter()
    for nct_id, outcome in outcomes(studies):
        titles = {group["id"]: group["title"] for group in outcome.get("groups", [])}
        for row in outcome.get("classes", []):
            for category in row.get("categories", []):
                for measured in category.get("measurements", []):
                    group = measured["groupId"]
                    in_class = analyzed(row.get("denoms", []), group)
                    in_outcome = analyzed(outcome.get("denoms", []), group)
                    spread, low, high = (
                        read(measured.get(name))[0]
                        for name in ("spread", "lowerLimit", "upperLimit")
                    )
                    value, qualifier, status = read(measured.get("value"))
                    expected[
                        nct_id,
                        *(outcome["type"], outcome.get("unitOfMeasure"), outcome.get("paramType")),
                        *(titles[group], in_outcome if in_class is None else in_class),
                        *(value, qualifier, status, measured.get("comment")),
                        *(outcome.get("dispersionType"), spread, low, high),
                    ] += 1
    statement = """
        SELECT nct_id, outcome_type, units, param_type, group_title, participants_analyzed,
            param_value_num, param_value_qualifier, param_value_status, explanation_of_na,
            dispersion_type, dispersion_value_num, dispersion_lower_limit, dispersion_upper_limit
        FROM marts.fct_outcome_result
    """
    assert Counter(values(recorded, statement)) == expected


def test_outcome_analyses_are_those_of_the_records(recorded: PostgresAddress) -> None:
    """Every analysis has its groups, estimate, interval and P value as the study's JSON has them."""
    studies, _ = real_studies()
    expected: Counter[tuple[Any, ...]] = Counter()
    for nct_id, outcome in outcomes(studies):
        titles = {group["id"]: group["title"] for group in outcome.get("groups", [])}
        for analysis in outcome.get("analyses", []):
            groups = [titles[group] for group in analysis.get("groupIds", [])]
            estimate, _, status = read(analysis.get("paramValue"))
            low, high = (read(analysis.get(name))[0] for name in ("ciLowerLimit", "ciUpperLimit"))
            expected[
                nct_id,
                *(len(groups), tuple(groups), analysis.get("paramType"), estimate, status),
                *(low, high, *read(analysis.get("pValue"))),
            ] += 1
    statement = """
        SELECT nct_id, group_count, group_titles, param_type, param_value, param_value_status,
            ci_lower_limit, ci_upper_limit, p_value, p_value_modifier, p_value_status
        FROM marts.fct_outcome_analysis
    """
    found = Counter(
        (nct_id, count, tuple(groups or ()), *rest)
        for nct_id, count, groups, *rest in values(recorded, statement)
    )
    assert found == expected


def test_adverse_events_are_those_of_the_records(recorded: PostgresAddress) -> None:
    """Every event and arm has its numbers and share as the study's JSON has them."""
    studies, _ = real_studies()
    events: Counter[tuple[Any, ...]] = Counter()
    arms: Counter[tuple[Any, ...]] = Counter()

    def share(affected: int | None, at_risk: int | None) -> float | None:
        return affected / at_risk if affected is not None and at_risk else None

    for study in studies:
        module = study.get("resultsSection", {}).get("adverseEventsModule", {})
        for event_type in ("serious", "other"):
            for event in module.get(f"{event_type}Events", []):
                for stats in event.get("stats", []):
                    numbers = [stats.get(name) for name in ("numAffected", "numAtRisk")]
                    events[
                        *(study["nct_id"], stats["groupId"], event_type),
                        *(event.get("term"), event.get("organSystem")),
                        *(*numbers, stats.get("numEvents"), share(*numbers)),
                    ] += 1
        for group in module.get("eventGroups", []):
            numbers = [
                group.get(f"{kind}Num{number}")
                for kind in ("serious", "other", "deaths")
                for number in ("Affected", "AtRisk")
            ]
            arms[study["nct_id"], group["id"], group["title"], *numbers, share(*numbers[4:])] += 1
    found_events = values(
        recorded,
        "SELECT nct_id, ctgov_group_code, event_type, adverse_event_term, organ_system,"
        " subjects_affected, subjects_at_risk, event_count, share_affected"
        " FROM marts.fct_adverse_event_arm",
    )
    assert Counter(found_events) == events
    found_arms = values(
        recorded,
        "SELECT nct_id, ctgov_group_code, group_title, serious_affected, serious_at_risk,"
        " other_affected, other_at_risk, deaths_affected, deaths_at_risk, deaths_share"
        " FROM marts.fct_adverse_event_arm_total",
    )
    assert Counter(found_arms) == arms
