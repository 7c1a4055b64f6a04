"""Statements that look into texts and put texts together."""

from __future__ import annotations

import re
from collections import Counter

from ctg_assets_tests.aact.from_json import Registry, at, by_study
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask


@ask(
    "SELECT nct_id FROM studies WHERE brief_title ILIKE '%heart failure%' OR official_title ILIKE '%heart failure%'",
    "ILIKE",
)
def heart_failure_in_titles(registry: Registry) -> Rows:
    """Titles, whatever their case."""
    return [
        (study.nct_id,)
        for study in registry.studies
        if "heart failure" in f"{study.brief_title}\n{study.official_title}".lower()
    ]


@ask(
    r"SELECT nct_id, official_title FROM studies WHERE official_title ~* '\mpla[cz]ebo\M.*\mdouble.?blind'",
    "~*",
)
def placebo_before_double_blind(registry: Registry) -> Rows:
    """A regular expression with bounds of words, whatever the case."""
    wanted = re.compile(r"\bpla[cz]ebo\b.*\bdouble.?blind", re.IGNORECASE | re.DOTALL)
    return [
        (study.nct_id, study.official_title)
        for study in registry.studies
        if wanted.search(study.official_title or "")
    ]


@ask("SELECT acronym FROM studies WHERE acronym ~ '^[A-Z]+-HF$'", "~")
def acronyms_ending_in_hf(registry: Registry) -> Rows:
    """A regular expression that knows capitals."""
    return [
        (study.acronym,)
        for study in registry.studies
        if re.search("^[A-Z]+-HF$", study.acronym or "")
    ]


@ask(
    """
    SELECT lower(name), count(DISTINCT nct_id) FROM conditions
    WHERE lower(name) = downcase_name GROUP BY lower(name) HAVING count(*) > 5
    """,
    "lower",
    "count distinct",
)
def frequent_conditions(registry: Registry) -> Rows:
    """The column in lower case is what lower() makes of the name, for every row."""
    rows = Counter(one.name.lower() for one in registry.conditions)
    studies = Counter(
        name for name, _ in {(one.name.lower(), one.nct_id) for one in registry.conditions}
    )
    return [(name, studies[name]) for name, count in rows.items() if count > 5]


@ask(
    """
    SELECT s.nct_id, string_agg(DISTINCT i.name, '; ' ORDER BY i.name) AS drugs
    FROM studies s JOIN interventions i ON i.nct_id = s.nct_id
    WHERE i.intervention_type IN ('DRUG', 'BIOLOGICAL') AND s.phase = 'PHASE2/PHASE3'
    GROUP BY s.nct_id
    """,
    "string_agg",
    "join on nct_id",
)
def drugs_of_phase_2_3(registry: Registry) -> Rows:
    """interventions+studies: names put together, each once, in order."""
    drugs = by_study([one for one in registry.interventions if one.type in {"DRUG", "BIOLOGICAL"}])
    return [
        (study.nct_id, "; ".join(sorted({one.name for one in drugs[study.nct_id]})))
        for study in registry.studies
        if study.phase == "PHASE2/PHASE3" and study.nct_id in drugs
    ]


@ask(
    "SELECT nct_id, array_agg(name ORDER BY id) FROM keywords GROUP BY nct_id HAVING count(*) > 10",
    "array_agg",
)
def keywords_in_the_order_of_ids(registry: Registry) -> Rows:
    """By id, rows are in the registry's order."""
    return [
        (nct_id, [one.name for one in found])
        for nct_id, found in by_study(registry.keywords).items()
        if len(found) > 10
    ]


@ask(
    """
    SELECT s.nct_id, json_agg(json_build_object('type', o.outcome_type, 'measure', o.measure,
        'time_frame', o.time_frame) ORDER BY o.id)
    FROM studies s JOIN design_outcomes o ON o.nct_id = s.nct_id
    WHERE s.overall_status = 'SUSPENDED' GROUP BY s.nct_id
    """,
    "json_agg",
)
def planned_outcomes_as_json(registry: Registry) -> Rows:
    """Rows of a study as a list of objects."""
    planned = by_study(registry.planned)
    return [
        (
            study.nct_id,
            [
                {"type": one.type, "measure": one.measure, "time_frame": one.time_frame}
                for one in planned[study.nct_id]
            ],
        )
        for study in registry.studies
        if study.status == "SUSPENDED" and study.nct_id in planned
    ]


@ask(
    """
    SELECT row_to_json(r) FROM (
        SELECT s.nct_id, s.brief_title, s.enrollment, s.start_date, b.description
        FROM studies s JOIN brief_summaries b ON b.nct_id = s.nct_id
        WHERE s.overall_status = 'NO_LONGER_AVAILABLE'
    ) r
    """,
    "row_to_json",
    "join on nct_id",
)
def rows_as_json(registry: Registry) -> Rows:
    """brief_summaries+studies: a whole row as an object."""
    return [
        (
            {
                "nct_id": study.nct_id,
                "brief_title": study.brief_title,
                "enrollment": study.enrollment,
                "start_date": study.start and study.start.isoformat(),
                "description": at(study.json, "protocolSection.descriptionModule.briefSummary"),
            },
        )
        for study in registry.studies
        if study.status == "NO_LONGER_AVAILABLE"
    ]


@ask(
    """
    SELECT b.nct_id, length(split_part(e.criteria, 'Exclusion Criteria', 1)), left(b.description, 40)
    FROM brief_summaries b JOIN eligibilities e ON b.nct_id = e.nct_id
    WHERE position('Exclusion Criteria' IN e.criteria) > 0 AND b.description LIKE '%placebo%'
    """,
    "LIKE",
    "join on nct_id",
)
def criteria_split(registry: Registry) -> Rows:
    """brief_summaries+eligibilities: criteria cut where the exclusions begin."""
    found: Rows = []
    for study in registry.studies:
        summary = at(study.json, "protocolSection.descriptionModule.briefSummary") or ""
        criteria = registry.eligibility(study.nct_id, "eligibilityCriteria") or ""
        before, exclusion, _ = criteria.partition("Exclusion Criteria")
        if exclusion and "placebo" in summary:
            found.append((study.nct_id, len(before), summary[:40]))
    return found


@ask(
    r"""
    SELECT d.nct_id, substring(d.description FROM '(?i)NYHA\s+class\s+([IV]+)'), length(d.description)
    FROM detailed_descriptions d JOIN studies s ON s.nct_id = d.nct_id
    WHERE d.description ~* 'NYHA\s+class\s+[IV]+' AND coalesce(s.acronym, '') <> ''
    """,
    "~*",
    "coalesce",
    "join on nct_id",
)
def classes_of_heart_failure(registry: Registry) -> Rows:
    """detailed_descriptions+studies: a piece of a text."""
    found: Rows = []
    for study in registry.studies:
        text = at(study.json, "protocolSection.descriptionModule.detailedDescription") or ""
        piece = re.search(r"NYHA\s+class\s+([IV]+)", text, re.IGNORECASE)
        if piece and study.acronym:
            found.append((study.nct_id, piece[1], len(text)))
    return found


@ask(
    """
    SELECT DISTINCT s.nct_id FROM studies s
    JOIN browse_conditions bc ON s.nct_id = bc.nct_id
    LEFT JOIN browse_interventions bi ON s.nct_id = bi.nct_id
    WHERE lower(bc.mesh_term) = 'asthma' AND bi.mesh_term ILIKE 'omalizumab'
    """,
    "lower",
    "ILIKE",
    "mesh_type",
    "join on nct_id",
)
def asthma_and_omalizumab(registry: Registry) -> Rows:
    """browse_conditions+studies, and browse_interventions."""
    ill = {one.nct_id for one in registry.terms("condition") if one.term == "Asthma"}
    treated = {one.nct_id for one in registry.terms("intervention") if one.term == "Omalizumab"}
    return [(nct_id,) for nct_id in ill & treated]
