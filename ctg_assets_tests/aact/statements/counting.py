"""Statements that count and filter."""

from __future__ import annotations

from collections import Counter
from datetime import date
from itertools import product

from ctg_assets_tests.aact.from_json import Registry, by_study
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask


@ask("SELECT overall_status, COUNT(*) FROM studies GROUP BY overall_status", "count distinct")
def studies_by_status(registry: Registry) -> Rows:
    """How many studies have each status."""
    return list(Counter(study.status for study in registry.studies).items())


@ask(
    """
    SELECT sp.agency_class, COUNT(DISTINCT s.nct_id) AS trials
    FROM studies s
    INNER JOIN sponsors sp ON s.nct_id = sp.nct_id
    WHERE s.study_type = 'INTERVENTIONAL' AND s.overall_status = 'COMPLETED'
        AND sp.lead_or_collaborator = 'lead'
    GROUP BY sp.agency_class
    ORDER BY trials DESC, sp.agency_class
    """,
    "count distinct",
    "join on nct_id",
    ordered=True,
)
def completed_trials_by_class_of_sponsor(registry: Registry) -> Rows:
    """sponsors+studies, the pair joined most."""
    found = Counter(
        registry.leads[study.nct_id].agency_class
        for study in registry.studies
        if study.nct_id in registry.leads
        and (study.study_type, study.status) == ("INTERVENTIONAL", "COMPLETED")
    )
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))


@ask(
    "SELECT coalesce(phase, 'none given'), count(*) FROM studies GROUP BY coalesce(phase, 'none given')",
    "coalesce",
)
def phases_with_those_without(registry: Registry) -> Rows:
    """NA is a value, and studies without a phase are NULL."""
    return list(Counter(study.phase or "none given" for study in registry.studies).items())


@ask(
    """
    SELECT study_type, count(*) AS total,
        count(*) FILTER (WHERE results_first_posted_date IS NOT NULL) AS with_results,
        count(*) FILTER (WHERE why_stopped <> '') AS stopped
    FROM studies GROUP BY 1
    """,
    "FILTER",
)
def results_and_stops_by_type(registry: Registry) -> Rows:
    """Several counts of the same rows."""
    return [
        (
            kind,
            len(found),
            sum(study.results_posted is not None for study in found),
            sum(bool(study.why_stopped) for study in found),
        )
        for kind in {study.study_type for study in registry.studies}
        for found in [[study for study in registry.studies if study.study_type == kind]]
    ]


@ask(
    """
    SELECT f.country, count(f.id) AS sites, count(DISTINCT f.nct_id) AS trials
    FROM facilities f JOIN studies s ON s.nct_id = f.nct_id
    WHERE s.overall_status IN ('RECRUITING', 'NOT_YET_RECRUITING')
    GROUP BY f.country HAVING count(f.id) >= 50
    """,
    "count distinct",
    "join on nct_id",
)
def sites_of_recruiting_studies(registry: Registry) -> Rows:
    """facilities+studies, with HAVING."""
    sites = [
        site
        for site in registry.facilities
        if registry.by_id[site.nct_id].status in {"RECRUITING", "NOT_YET_RECRUITING"}
    ]
    counts = Counter(site.country for site in sites)
    return [
        (country, count, len({site.nct_id for site in sites if site.country == country}))
        for country, count in counts.items()
        if count >= 50
    ]


@ask(
    """
    SELECT count(DISTINCT c.nct_id) FROM conditions c JOIN facilities f ON c.nct_id = f.nct_id
    WHERE c.downcase_name LIKE '%cancer%' AND f.state = 'California'
    """,
    "LIKE",
    "count distinct",
    "join on nct_id",
)
def cancer_in_california(registry: Registry) -> Rows:
    """conditions+facilities."""
    cancer = {one.nct_id for one in registry.conditions if "cancer" in one.name.lower()}
    return [
        (len(cancer & {one.nct_id for one in registry.facilities if one.state == "California"}),)
    ]


@ask(
    """
    SELECT name, count(*) FILTER (WHERE NOT removed), count(*) FILTER (WHERE removed)
    FROM countries GROUP BY name
    """,
    "countries.removed",
    "FILTER",
)
def countries_present_and_removed(registry: Registry) -> Rows:
    """Countries of sites, and those whose sites were all removed."""
    found = Counter((one.name, one.removed) for one in registry.countries)
    return [(name, found[name, False], found[name, True]) for name in {name for name, _ in found}]


@ask(
    """
    SELECT mesh_term, mesh_type, count(DISTINCT nct_id)
    FROM browse_conditions
    WHERE downcase_mesh_term IN ('heart failure', 'asthma', 'cardiovascular diseases')
    GROUP BY mesh_term, mesh_type
    """,
    "mesh_type",
    "count distinct",
)
def terms_and_those_above(registry: Registry) -> Rows:
    """The same term as what a study is about, and as what lies above that."""
    wanted = {"heart failure", "asthma", "cardiovascular diseases"}
    found = {
        (one.term, one.mesh_type, one.nct_id)
        for one in registry.terms("condition")
        if one.term.lower() in wanted
    }
    return [(*pair, count) for pair, count in Counter((one[0], one[1]) for one in found).items()]


@ask(
    """
    SELECT date_trunc('year', start_date)::date AS year, count(*) FROM studies
    WHERE start_date >= '2015-01-01' AND start_date < '2025-01-01' GROUP BY 1 ORDER BY 1
    """,
    "date_trunc",
    ordered=True,
)
def starts_by_year(registry: Registry) -> Rows:
    """Dates cut to the year, compared with text."""
    starts = [study.start for study in registry.studies if study.start is not None]
    found = Counter(date(start.year, 1, 1) for start in starts if 2015 <= start.year < 2025)
    return sorted(found.items())


@ask(
    """
    SELECT extract(year FROM study_first_submitted_date)::int,
        date_part('quarter', study_first_submitted_date)::int, count(*)
    FROM studies WHERE extract(year FROM study_first_submitted_date) BETWEEN 2018 AND 2020 GROUP BY 1, 2
    """,
    "extract",
    "date_part",
)
def registrations_by_quarter(registry: Registry) -> Rows:
    """Parts of dates."""
    days = [study.first_submitted for study in registry.studies]
    found = Counter((day.year, (day.month + 2) // 3) for day in days if 2018 <= day.year <= 2020)
    return [(*quarter, count) for quarter, count in found.items()]


@ask(
    """
    SELECT s.study_type, count(*) FROM studies s LEFT JOIN designs d ON d.nct_id = s.nct_id
    WHERE d.nct_id IS NULL GROUP BY s.study_type
    """,
    "anti-join",
    "join on nct_id",
)
def studies_without_design(registry: Registry) -> Rows:
    """A few studies have no row in designs."""
    without = [
        study.study_type
        for study in registry.studies
        if "designInfo" not in study.json["protocolSection"].get("designModule", {})
    ]
    return list(Counter(without).items())


@ask(
    """
    SELECT CASE WHEN s.overall_status IN ('TERMINATED', 'WITHDRAWN', 'SUSPENDED') THEN 'stopped'
            WHEN s.overall_status = 'COMPLETED' THEN 'completed' ELSE 'other' END AS outcome,
        e.gender, count(*)
    FROM studies s JOIN eligibilities e USING (nct_id)
    WHERE e.healthy_volunteers IS TRUE AND e.older_adult
    GROUP BY outcome, e.gender
    """,
    "join on nct_id",
)
def fates_of_studies_of_healthy_people(registry: Registry) -> Rows:
    """eligibilities+studies, with CASE and booleans."""
    fates = {"COMPLETED": "completed"} | dict.fromkeys(
        ("TERMINATED", "WITHDRAWN", "SUSPENDED"), "stopped"
    )
    found = Counter(
        (fates.get(study.status, "other"), registry.eligibility(study.nct_id, "sex"))
        for study in registry.studies
        if registry.eligibility(study.nct_id, "healthyVolunteers") is True
        and "OLDER_ADULT" in (registry.eligibility(study.nct_id, "stdAges") or [])
    )
    return [(*pair, count) for pair, count in found.items()]


@ask(
    """
    SELECT d.allocation, d.masking, count(*) FROM designs d
    WHERE d.outcomes_assessor_masked AND NOT d.subject_masked GROUP BY d.allocation, d.masking
    """,
    "FILTER",
)
def assessor_masked_but_not_the_subject(registry: Registry) -> Rows:
    """The flags of who is masked."""
    found: Counter[tuple[str | None, str | None]] = Counter()
    for study in registry.studies:
        masking = registry.design(study.nct_id, "maskingInfo") or {}
        who = set(masking.get("whoMasked", []))
        if "OUTCOMES_ASSESSOR" in who and "PARTICIPANT" not in who:
            found[registry.design(study.nct_id, "allocation"), masking.get("masking")] += 1
    return [(*pair, count) for pair, count in found.items()]


@ask(
    """
    SELECT i.intervention_type, sp.agency_class, count(*)
    FROM interventions i, sponsors sp
    WHERE i.nct_id = sp.nct_id AND sp.lead_or_collaborator = 'collaborator'
    GROUP BY i.intervention_type, sp.agency_class
    """,
    "join on nct_id",
)
def interventions_by_class_of_collaborator(registry: Registry) -> Rows:
    """interventions+sponsors, joined in the WHERE; each intervention once for each collaborator."""
    helpers = by_study([one for one in registry.sponsors if one.role == "collaborator"])
    found = Counter(
        pair
        for one in registry.interventions
        for pair in product([one.type], [s.agency_class for s in helpers.get(one.nct_id, [])])
    )
    return [(*pair, count) for pair, count in found.items()]


@ask(
    """
    WITH drugs AS (SELECT DISTINCT nct_id FROM interventions WHERE intervention_type = 'DRUG'),
    germany AS (SELECT nct_id FROM countries WHERE name = 'Germany' AND removed IS NOT TRUE)
    SELECT nct_id FROM drugs INTERSECT SELECT nct_id FROM germany
    EXCEPT SELECT nct_id FROM studies WHERE overall_status = 'COMPLETED'
    """,
    "countries.removed",
)
def drugs_in_germany_not_completed(registry: Registry) -> Rows:
    """Named subqueries and sets."""
    drugs = {one.nct_id for one in registry.interventions if one.type == "DRUG"}
    germany = {
        one.nct_id for one in registry.countries if one.name == "Germany" and not one.removed
    }
    completed = {study.nct_id for study in registry.studies if study.status == "COMPLETED"}
    return [(nct_id,) for nct_id in drugs & germany - completed]
