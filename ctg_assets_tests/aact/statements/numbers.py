"""Statements that compute: rounding, averages, percentiles, windows, ages, sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from itertools import accumulate

from ctg_assets_tests.aact.from_json import Measurement, Registry, by_study, number
from ctg_assets_tests.aact.statements.statement import (
    Rows,
    Statements,
    mean,
    percentile,
    rounded,
)

STATEMENTS = Statements()
ask = STATEMENTS.ask


def _param_type(one: Measurement) -> str | None:
    found: str | None = one.outcome.json.get("paramType")
    return found


@ask(
    """
    SELECT param_type, count(param_value_num), round(avg(param_value_num), 3)
    FROM outcome_measurements WHERE units = 'percentage of participants' GROUP BY param_type
    """,
    "round of average",
)
def average_percentages(registry: Registry) -> Rows:
    """The average of a numeric column, rounded to places."""
    values: dict[str | None, list[Decimal]] = defaultdict(list)
    for one in registry.measurements:
        if one.outcome.json.get("unitOfMeasure") == "percentage of participants":
            values[_param_type(one)] += [
                value for value in [number(one.value)] if value is not None
            ]
    return [(kind, len(found), rounded(mean(found), 3)) for kind, found in values.items()]


@ask(
    """
    SELECT m.nct_id, round(m.param_value_num, 1), count(*) FROM outcome_measurements m
    WHERE m.param_value_num BETWEEN 10.05 AND 10.15 GROUP BY m.nct_id, round(m.param_value_num, 1)
    """,
    "round of numeric",
)
def values_about_ten(registry: Registry) -> Rows:
    """A numeric column rounded, halves upwards, and compared with decimals."""
    found = Counter(
        (one.outcome.nct_id, rounded(value, 1))
        for one in registry.measurements
        for value in [number(one.value)]
        if value is not None and Decimal("10.05") <= value <= Decimal("10.15")
    )
    return [(*pair, count) for pair, count in found.items()]


@ask(
    "SELECT count(*) FROM outcome_measurements WHERE param_value_num = 12.3 OR param_value_num = 0.7",
    "round of numeric",
)
def values_equal_to_a_decimal(registry: Registry) -> Rows:
    """Decimals are equal to what was sent, as they are not in binary."""
    wanted = {Decimal("12.3"), Decimal("0.7")}
    return [(sum(number(one.value) in wanted for one in registry.measurements),)]


@ask(
    """
    SELECT phase, percentile_cont(0.5) WITHIN GROUP (ORDER BY enrollment) AS median,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY enrollment), round(avg(enrollment), 1), sum(enrollment)
    FROM studies WHERE enrollment IS NOT NULL AND enrollment_type = 'ACTUAL' GROUP BY phase
    """,
    "percentiles",
    "round of average",
)
def enrollment_by_phase(registry: Registry) -> Rows:
    """Percentiles of an integer column, and its sum."""
    found: dict[str | None, list[int]] = defaultdict(list)
    for study in registry.studies:
        if study.enrollment is not None and study.enrollment_type == "ACTUAL":
            found[study.phase].append(study.enrollment)
    return [
        (
            phase,
            percentile(values, 0.5),
            percentile(values, 0.9),
            rounded(mean(values), 1),
            sum(values),
        )
        for phase, values in found.items()
    ]


@ask(
    """
    SELECT CASE WHEN split_part(minimum_age, ' ', 1)::int < 18 THEN 'minors' ELSE 'adults' END AS who,
        count(*), max(split_part(maximum_age, ' ', 1)::integer)
    FROM eligibilities
    WHERE minimum_age LIKE '% Year%' AND maximum_age LIKE '% Year%' GROUP BY 1
    """,
    "ages split and cast",
    "LIKE",
)
def ages_in_years(registry: Registry) -> Rows:
    """Ages are text with a unit: cut at the blank, and made numbers."""
    found: dict[str, list[int]] = defaultdict(list)
    for study in registry.studies:
        low, high = (
            registry.eligibility(study.nct_id, f"{end}Age") for end in ("minimum", "maximum")
        )
        if " Year" in (low or "") and " Year" in (high or ""):
            who = "minors" if int(low.split()[0]) < 18 else "adults"
            found[who].append(int(high.split()[0]))
    return [(who, len(ages), max(ages)) for who, ages in found.items()]


@ask(
    """
    SELECT name, n, rank() OVER (ORDER BY n DESC) FROM (
        SELECT sp.name, count(DISTINCT sp.nct_id) AS n FROM sponsors sp
        JOIN studies s ON s.nct_id = sp.nct_id WHERE sp.lead_or_collaborator = 'lead' GROUP BY sp.name
    ) ranked WHERE n > 15 ORDER BY n DESC, name
    """,
    "windows",
    "join on nct_id",
    ordered=True,
)
def sponsors_ranked(registry: Registry) -> Rows:
    """Ranks of a count."""
    counts = Counter(one.name for one in registry.leads.values())
    most = sorted((one for one in counts.items() if one[1] > 15), key=lambda one: (-one[1], one[0]))
    return [(name, n, 1 + sum(other > n for _, other in most)) for name, n in most]


@ask(
    """
    SELECT year, n, sum(n) OVER (ORDER BY year), n - lag(n, 1, 0::bigint) OVER (ORDER BY year) FROM (
        SELECT extract(year FROM start_date)::int AS year, count(*) AS n FROM studies
        WHERE start_date IS NOT NULL GROUP BY 1
    ) AS t ORDER BY year
    """,
    "windows",
    "extract",
    ordered=True,
)
def starts_running_total(registry: Registry) -> Rows:
    """A running total, and the change from the year before."""
    years = sorted(
        Counter(study.start.year for study in registry.studies if study.start is not None).items()
    )
    totals = accumulate(n for _, n in years)
    before = [0, *(n for _, n in years)]
    return [
        (year, n, total, n - last)
        for (year, n), total, last in zip(years, totals, before, strict=False)
    ]


@ask(
    """
    SELECT nct_id, brief_title FROM (
        SELECT s.nct_id, s.brief_title, row_number() OVER (
            PARTITION BY sp.name ORDER BY s.study_first_submitted_date DESC, s.nct_id DESC) AS place
        FROM studies s JOIN sponsors sp ON sp.nct_id = s.nct_id AND sp.lead_or_collaborator = 'lead'
        WHERE sp.agency_class = 'NIH'
    ) AS newest WHERE place = 1
    """,
    "windows",
    "join on nct_id",
)
def newest_study_of_each_institute(registry: Registry) -> Rows:
    """The first row of each group."""
    found: dict[str, tuple[object, str]] = {}
    for study in registry.studies:
        lead = registry.leads.get(study.nct_id)
        if lead is not None and lead.agency_class == "NIH":
            key = (study.first_submitted, study.nct_id)
            found[lead.name] = max(found.get(lead.name, key), key)
    return [(nct_id, registry.by_id[nct_id].brief_title) for _, nct_id in found.values()]


@ask(
    """
    SELECT s.nct_id, site.name, site.city
    FROM studies s CROSS JOIN LATERAL (
        SELECT f.name, f.city FROM facilities f WHERE f.nct_id = s.nct_id ORDER BY f.id LIMIT 1
    ) AS site
    WHERE s.overall_status = 'SUSPENDED'
    """,
    "LATERAL",
    "first by lowest id",
)
def first_site(registry: Registry) -> Rows:
    """The first site of each study, in the registry's order."""
    sites = by_study(registry.facilities)
    return [
        (study.nct_id, sites[study.nct_id][0].name, sites[study.nct_id][0].city)
        for study in registry.studies
        if study.status == "SUSPENDED" and study.nct_id in sites
    ]


@ask(
    """
    SELECT s.nct_id, c.name, i.name FROM studies s
    LEFT JOIN (SELECT DISTINCT ON (nct_id) nct_id, name FROM conditions ORDER BY nct_id, id) c
        ON c.nct_id = s.nct_id
    LEFT JOIN interventions i
        ON i.id = (SELECT min(id) FROM interventions WHERE nct_id = s.nct_id)
    """,
    "first by lowest id",
    "join by id",
)
def first_condition_and_intervention(registry: Registry) -> Rows:
    """The first condition and intervention of every study are those with the lowest ids."""
    conditions, interventions = by_study(registry.conditions), by_study(registry.interventions)
    return [
        (
            nct_id,
            *(
                found[nct_id][0].name if nct_id in found else None
                for found in (conditions, interventions)
            ),
        )
        for nct_id in registry.by_id
    ]


@ask(
    """
    SELECT organ_system, event_type, sum(subjects_affected) AS affected, sum(event_count), max(subjects_at_risk)
    FROM reported_events GROUP BY organ_system, event_type
    """,
    "sums of events",
)
def events_by_organ_system(registry: Registry) -> Rows:
    """Sums over all adverse events, NULLs left out."""
    found = defaultdict(list)
    for one in registry.events:
        found[one.organ_system, one.type].append(one)
    return [
        (
            *key,
            sum(one.affected or 0 for one in events),
            sum(counts) if (counts := [e.times for e in events if e.times is not None]) else None,
            max(one.at_risk or 0 for one in events),
        )
        for key, events in found.items()
    ]


@ask(
    """
    SELECT s.phase, count(*), avg(cv.number_of_facilities)::numeric(10,2), max(cv.actual_duration),
        count(cv.months_to_report_results), bool_or(cv.has_us_facility)
    FROM calculated_values cv JOIN studies s ON s.nct_id = cv.nct_id
    WHERE cv.were_results_reported GROUP BY s.phase
    """,
    "calculated_values",
    "round of average",
    "join on nct_id",
)
def calculated_of_studies_with_results(registry: Registry) -> Rows:
    """calculated_values+studies."""
    sites, outcomes = by_study(registry.facilities), by_study(registry.outcomes)
    durations: dict[str | None, list[int]] = defaultdict(list)
    reported: Counter[str | None] = Counter()
    numbers: dict[str | None, list[int]] = defaultdict(list)
    in_us = {
        one.nct_id for one in registry.facilities if one.country in {"United States", "Puerto Rico"}
    }
    somewhere_in_us: dict[str | None, bool] = defaultdict(bool)
    for study in (registry.by_id[nct_id] for nct_id in outcomes):
        numbers[study.phase].append(len(sites.get(study.nct_id, [])))
        somewhere_in_us[study.phase] |= study.nct_id in in_us
        done = study.primary_completion
        if (
            study.start
            and done
            and "ESTIMATED" not in {study.start_type, study.primary_completion_type}
        ):
            durations[study.phase].append(int((done - study.start).days / 30))
        reported[study.phase] += bool(done and study.results_submitted)
    return [
        (
            phase,
            len(found),
            rounded(mean(found), 2),
            max(durations[phase]),
            reported[phase],
            somewhere_in_us[phase],
        )
        for phase, found in numbers.items()
    ]


@ask(
    """
    SELECT method, count(*), count(*) FILTER (WHERE p_value < 0.05), round(min(p_value)::numeric, 4)
    FROM outcome_analyses WHERE p_value IS NOT NULL AND p_value_modifier = ''
    GROUP BY method HAVING count(*) >= 100
    """,
    "round of numeric",
    "FILTER",
)
def plain_p_values_by_method(registry: Registry) -> Rows:
    """Analyses whose p value is a plain number."""
    found: dict[str | None, list[float]] = defaultdict(list)
    for outcome in registry.outcomes:
        for one in outcome.json.get("analyses", []):
            text = one.get("pValue") or ""
            if text and not text.strip("0123456789.-"):
                found[one.get("statisticalMethod")].append(float(text))
    return [
        (method, len(values), sum(v < 0.05 for v in values), rounded(Decimal(repr(min(values))), 4))
        for method, values in found.items()
        if len(values) >= 100
    ]


@ask(
    """
    SELECT city, count(*), round(avg(latitude), 2) FROM facilities
    WHERE latitude BETWEEN 47.5 AND 55.0 AND longitude BETWEEN 6.0 AND 15.0 AND country = 'Germany'
    GROUP BY city HAVING count(*) > 30
    """,
    "round of average",
)
def german_cities_by_place(registry: Registry) -> Rows:
    """Coordinates are numeric: they can be averaged and rounded."""
    found: dict[str | None, list[Decimal]] = defaultdict(list)
    for one in registry.facilities:
        if one.country != "Germany" or one.latitude is None or one.longitude is None:
            continue
        if 47.5 <= one.latitude <= 55 and 6 <= one.longitude <= 15:
            found[one.city].append(Decimal(repr(one.latitude)))
    return [
        (city, len(values), rounded(mean(values), 2))
        for city, values in found.items()
        if len(values) > 30
    ]


@ask(
    "SELECT count(*), count(DISTINCT nct_id) FROM studies TABLESAMPLE BERNOULLI (100)",
    "TABLESAMPLE",
)
def sample_of_everything(registry: Registry) -> Rows:
    """A sample of all is all, and needs a table: views cannot be sampled."""
    return [(len(registry.studies), len(registry.studies))]


@ask(
    """
    SELECT agency_class, round(100.0 * count(*) / sum(count(*)) OVER (), 1) FROM sponsors
    GROUP BY agency_class
    """,
    "windows",
    "round of numeric",
)
def shares_of_classes(registry: Registry) -> Rows:
    """Percent of the whole."""
    found = Counter(one.agency_class for one in registry.sponsors)
    every = len(registry.sponsors)
    return [(kind, rounded(Decimal(100 * count) / every, 1)) for kind, count in found.items()]
