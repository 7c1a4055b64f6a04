"""Statements that compare with the labels of before June 2024, as half of the published ones do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ctg_assets_tests.aact.from_json import Registry, Study, at, items
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask

STATUSES = {
    "ACTIVE_NOT_RECRUITING": "Active, not recruiting",
    "COMPLETED": "Completed",
    "ENROLLING_BY_INVITATION": "Enrolling by invitation",
    "NOT_YET_RECRUITING": "Not yet recruiting",
    "RECRUITING": "Recruiting",
    "SUSPENDED": "Suspended",
    "TERMINATED": "Terminated",
    "WITHDRAWN": "Withdrawn",
    "AVAILABLE": "Available",
    "NO_LONGER_AVAILABLE": "No longer available",
    "TEMPORARILY_NOT_AVAILABLE": "Temporarily not available",
    "APPROVED_FOR_MARKETING": "Approved for marketing",
    "WITHHELD": "Withheld",
    "UNKNOWN": "Unknown status",
}
PHASES = {
    None: None,
    "NA": "Not Applicable",
    "EARLY_PHASE1": "Early Phase 1",
    "PHASE1": "Phase 1",
    "PHASE1/PHASE2": "Phase 1/Phase 2",
    "PHASE2": "Phase 2",
    "PHASE2/PHASE3": "Phase 2/Phase 3",
    "PHASE3": "Phase 3",
    "PHASE4": "Phase 4",
}
INTERVENTION_TYPES = {
    "BEHAVIORAL": "Behavioral",
    "BIOLOGICAL": "Biological",
    "COMBINATION_PRODUCT": "Combination Product",
    "DEVICE": "Device",
    "DIAGNOSTIC_TEST": "Diagnostic Test",
    "DIETARY_SUPPLEMENT": "Dietary Supplement",
    "DRUG": "Drug",
    "GENETIC": "Genetic",
    "PROCEDURE": "Procedure",
    "RADIATION": "Radiation",
    "OTHER": "Other",
}
DATE_TYPES = {None: None, "ACTUAL": "Actual", "ESTIMATED": "Anticipated"}
ALLOCATIONS = {
    None: None,
    "RANDOMIZED": "Randomized",
    "NON_RANDOMIZED": "Non-Randomized",
    "NA": "N/A",
}
MODELS = {
    None: None,
    "SINGLE_GROUP": "Single Group Assignment",
    "PARALLEL": "Parallel Assignment",
    "CROSSOVER": "Crossover Assignment",
    "FACTORIAL": "Factorial Assignment",
    "SEQUENTIAL": "Sequential Assignment",
}
MASKINGS = {
    None: None,
    "NONE": "None (Open Label)",
    "SINGLE": "Single",
    "DOUBLE": "Double",
    "TRIPLE": "Triple",
    "QUADRUPLE": "Quadruple",
}
PURPOSES = {
    None: None,
    "TREATMENT": "Treatment",
    "PREVENTION": "Prevention",
    "DIAGNOSTIC": "Diagnostic",
    "ECT": "Educational/Counseling/Training",
    "SUPPORTIVE_CARE": "Supportive Care",
    "SCREENING": "Screening",
    "HEALTH_SERVICES_RESEARCH": "Health Services Research",
    "BASIC_SCIENCE": "Basic Science",
    "DEVICE_FEASIBILITY": "Device Feasibility",
    "OTHER": "Other",
}
GROUP_TYPES = {
    None: None,
    "EXPERIMENTAL": "Experimental",
    "ACTIVE_COMPARATOR": "Active Comparator",
    "PLACEBO_COMPARATOR": "Placebo Comparator",
    "SHAM_COMPARATOR": "Sham Comparator",
    "NO_INTERVENTION": "No Intervention",
    "OTHER": "Other",
}
SEXES = {None: None, "ALL": "All", "FEMALE": "Female", "MALE": "Male"}
HEALTHY = {None: None, True: "Accepts Healthy Volunteers", False: "No"}
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def in_words(text: str | None) -> str | None:
    """A date as AACT wrote it: 2007, February 2008, or June 13, 2019."""
    if text is None or "-" not in text:
        return text
    year, month, *day = text.split("-")
    return f"{MONTHS[int(month) - 1]} {f'{int(day[0])}, ' if day else ''}{year}"


def study_type(study: Study) -> str | None:
    """What AACT called a study's type, registries of patients being one of their own."""
    if at(study.json, "protocolSection.designModule.patientRegistry"):
        return "Observational [Patient Registry]"
    known: Mapping[str | None, str] = {
        "INTERVENTIONAL": "Interventional",
        "OBSERVATIONAL": "Observational",
        "EXPANDED_ACCESS": "Expanded Access",
    }
    return known.get(study.study_type)


@ask("SELECT overall_status, count(*) FROM studies GROUP BY overall_status", "old labels")
def statuses(registry: Registry) -> Rows:
    """Statuses in words."""
    return list(Counter(STATUSES[study.status] for study in registry.studies).items())


@ask("SELECT phase, count(*) FROM studies GROUP BY phase", "old labels")
def phases(registry: Registry) -> Rows:
    """Phases in words, two of them with a slash."""
    return list(Counter(PHASES[study.phase] for study in registry.studies).items())


@ask(
    """
    SELECT count(*) FROM studies WHERE phase IN ('Phase 2', 'Phase 2/Phase 3', 'Phase 3')
        AND overall_status IN ('Completed', 'Terminated') AND study_type = 'Interventional'
    """,
    "old labels",
)
def trials_chosen_by_words(registry: Registry) -> Rows:
    """A choice as papers make it."""
    return [
        (
            sum(
                study.phase in {"PHASE2", "PHASE2/PHASE3", "PHASE3"}
                and study.status in {"COMPLETED", "TERMINATED"}
                and study.study_type == "INTERVENTIONAL"
                for study in registry.studies
            ),
        )
    ]


@ask("SELECT study_type, count(*) FROM studies GROUP BY study_type", "old labels")
def study_types(registry: Registry) -> Rows:
    """Types of studies; registries of patients were a type of their own."""
    return list(Counter(study_type(study) for study in registry.studies).items())


@ask(
    """
    SELECT i.intervention_type, count(DISTINCT s.nct_id) FROM studies s
    JOIN interventions i ON i.nct_id = s.nct_id WHERE s.overall_status = 'Recruiting' GROUP BY 1
    """,
    "old labels",
    "join on nct_id",
)
def types_of_interventions(registry: Registry) -> Rows:
    """Types of interventions of studies that recruit."""
    found = {
        (INTERVENTION_TYPES[one.type], one.nct_id)
        for one in registry.interventions
        if registry.by_id[one.nct_id].status == "RECRUITING"
    }
    return list(Counter(kind for kind, _ in found).items())


@ask(
    """
    SELECT nct_id, start_month_year, completion_month_year, primary_completion_month_year, verification_month_year
    FROM studies
    """,
    "old labels",
)
def dates_in_words(registry: Registry) -> Rows:
    """Dates as text were in words."""
    names = (
        "startDateStruct.date",
        "completionDateStruct.date",
        "primaryCompletionDateStruct.date",
        "statusVerifiedDate",
    )
    module = "protocolSection.statusModule"
    return [
        (study.nct_id, *(in_words(at(study.json, f"{module}.{name}")) for name in names))
        for study in registry.studies
    ]


@ask(
    """
    SELECT start_date_type, primary_completion_date_type, enrollment_type, count(*), min(start_date)
    FROM studies GROUP BY 1, 2, 3
    """,
    "old labels",
)
def types_of_dates(registry: Registry) -> Rows:
    """Dates and enrollment were actual or anticipated; the dates themselves are today's."""
    found: dict[tuple[str | None, ...], list[Study]] = {}
    for study in registry.studies:
        sent = (study.start_type, study.primary_completion_type, study.enrollment_type)
        found.setdefault(tuple(DATE_TYPES[one] for one in sent), []).append(study)
    return [
        (
            *types,
            len(studies),
            min((study.start for study in studies if study.start), default=None),
        )
        for types, studies in found.items()
    ]


@ask(
    """
    SELECT study_first_posted_date_type, results_first_posted_date_type, last_update_posted_date_type, count(*)
    FROM studies GROUP BY 1, 2, 3
    """,
    "old labels",
)
def types_of_posted_dates(registry: Registry) -> Rows:
    """Posted dates were actual or an estimate."""
    words = {None: None, "ACTUAL": "Actual", "ESTIMATED": "Estimate"}
    names = ("studyFirstPostDateStruct", "resultsFirstPostDateStruct", "lastUpdatePostDateStruct")
    found = Counter(
        tuple(words[at(study.json, f"protocolSection.statusModule.{name}.type")] for name in names)
        for study in registry.studies
    )
    return [(*types, count) for types, count in found.items()]


@ask(
    """
    SELECT allocation, intervention_model, masking, primary_purpose, count(*) FROM designs
    GROUP BY allocation, intervention_model, masking, primary_purpose
    """,
    "old labels",
)
def designs(registry: Registry) -> Rows:
    """How subjects are allocated, and who is masked."""
    found = Counter(
        (
            ALLOCATIONS[registry.design(study.nct_id, "allocation")],
            MODELS[registry.design(study.nct_id, "interventionModel")],
            MASKINGS[at(registry.design(study.nct_id, "maskingInfo"), "masking")],
            PURPOSES[registry.design(study.nct_id, "primaryPurpose")],
        )
        for study in registry.studies
        if "designInfo" in study.json["protocolSection"].get("designModule", {})
    )
    return [(*design, count) for design, count in found.items()]


@ask(
    """
    SELECT d.observational_model, d.time_perspective, count(*) FROM designs d
    JOIN studies s ON s.nct_id = d.nct_id
    WHERE s.study_type LIKE 'Observational%' AND d.time_perspective IN ('Prospective', 'Retrospective')
        AND d.observational_model IN ('Cohort', 'Case-Control', 'Case-Only')
    GROUP BY 1, 2
    """,
    "old labels",
    "LIKE",
)
def observational_designs(registry: Registry) -> Rows:
    """How people are observed, and when."""
    models = {"COHORT": "Cohort", "CASE_CONTROL": "Case-Control", "CASE_ONLY": "Case-Only"}
    times = {"PROSPECTIVE": "Prospective", "RETROSPECTIVE": "Retrospective"}
    found: Counter[tuple[str, str]] = Counter()
    for study in registry.studies:
        model = registry.design(study.nct_id, "observationalModel")
        when = registry.design(study.nct_id, "timePerspective")
        if study.study_type == "OBSERVATIONAL" and model in models and when in times:
            found[models[model], times[when]] += 1
    return [(*pair, count) for pair, count in found.items()]


@ask(
    """
    SELECT gender, healthy_volunteers, sampling_method, count(*) FROM eligibilities
    GROUP BY gender, healthy_volunteers, sampling_method
    """,
    "old labels",
)
def who_may_take_part(registry: Registry) -> Rows:
    """Whether healthy people may was text."""
    methods = {
        None: None,
        "PROBABILITY_SAMPLE": "Probability Sample",
        "NON_PROBABILITY_SAMPLE": "Non-Probability Sample",
    }
    found = Counter(
        (
            SEXES[registry.eligibility(nct_id, "sex")],
            HEALTHY[registry.eligibility(nct_id, "healthyVolunteers")],
            methods[registry.eligibility(nct_id, "samplingMethod")],
        )
        for nct_id, study in registry.by_id.items()
        if "eligibilityModule" in study.json["protocolSection"]
    )
    return [(*who, count) for who, count in found.items()]


@ask(
    """
    SELECT reference_type, count(*), count(DISTINCT nct_id) FROM study_references
    WHERE reference_type IN ('reference', 'results_reference') GROUP BY reference_type
    """,
    "old labels",
    "count distinct",
)
def types_of_references(registry: Registry) -> Rows:
    """Publications of results, and others."""
    words = {
        "BACKGROUND": "reference",
        "RESULT": "results_reference",
        "DERIVED": "results_reference",
    }
    found = [
        (words[one["type"]], study.nct_id)
        for study in registry.studies
        for one in items(study.json, "protocolSection.referencesModule.references")
    ]
    counts, studies = Counter(kind for kind, _ in found), Counter(kind for kind, _ in set(found))
    return [(kind, count, studies[kind]) for kind, count in counts.items()]


@ask("SELECT nct_id FROM studies WHERE delayed_posting = 'Yes'", "old labels")
def delayed(registry: Registry) -> Rows:
    """Posting was delayed, or nothing was said."""
    path = "protocolSection.statusModule.delayedPosting"
    return [(study.nct_id,) for study in registry.studies if at(study.json, path)]


@ask(
    """
    SELECT dg.group_type, s.last_known_status, count(*) FROM design_groups dg
    JOIN studies s ON s.nct_id = dg.nct_id WHERE s.overall_status = 'Unknown status' GROUP BY 1, 2
    """,
    "old labels",
    "join on nct_id",
)
def groups_of_studies_nobody_hears_of(registry: Registry) -> Rows:
    """Types of groups, and the status last known."""
    path = "protocolSection.statusModule.lastKnownStatus"
    studies = registry.by_id
    found = Counter(
        (GROUP_TYPES[one.type], STATUSES[at(studies[one.nct_id].json, path)])
        for one in registry.groups
        if studies[one.nct_id].status == "UNKNOWN"
    )
    return [(*pair, count) for pair, count in found.items()]


@ask(
    """
    SELECT f.status, count(*) FROM facilities f WHERE f.status IS NOT NULL GROUP BY f.status
    """,
    "old labels",
)
def statuses_of_sites(registry: Registry) -> Rows:
    """Sites have statuses, too."""
    return list(Counter(STATUSES[one.status] for one in registry.facilities if one.status).items())


@ask(
    """
    SELECT lead_or_collaborator, agency_class, count(*) FROM sponsors GROUP BY 1, 2
    UNION ALL SELECT outcome_type, NULL, count(*) FROM design_outcomes GROUP BY 1
    """,
    "old labels",
)
def what_is_called_as_ever(registry: Registry) -> Rows:
    """Sponsors' roles and planned outcomes were in lower case then, too, and classes in capitals since 2021."""
    sponsors = Counter((one.role, one.agency_class) for one in registry.sponsors)
    planned = Counter(one.type for one in registry.planned)
    return [(*pair, count) for pair, count in sponsors.items()] + [
        (kind, None, count) for kind, count in planned.items()
    ]


@ask(
    """
    SELECT s.nct_id, t.names FROM studies s JOIN all_intervention_types t ON t.nct_id = s.nct_id
    WHERE s.study_type = 'Observational [Patient Registry]'
    """,
    "old labels",
    "all_* views",
)
def views_with_old_labels(registry: Registry) -> Rows:
    """The views, too, have the old labels."""
    found: dict[str, list[str]] = {}
    for one in registry.interventions:
        if study_type(registry.by_id[one.nct_id]) == "Observational [Patient Registry]":
            found.setdefault(one.nct_id, []).append(INTERVENTION_TYPES[one.type])
    return [(nct_id, "|".join(names)) for nct_id, names in found.items()]


@ask(
    "SELECT nct_id, recruitment, phase, gender FROM study_summaries_for_condition('cluster headache')",
    "old labels",
    "functions",
)
def functions_with_old_labels(registry: Registry) -> Rows:
    """And the functions."""
    named = {
        (one.nct_id, one.name)
        for one in (*registry.conditions, *registry.keywords)
        if one.name.lower() == "cluster headache"
    }
    terms = {
        (one.nct_id, one.term)
        for one in registry.terms("condition")
        if one.term.lower() == "cluster headache"
    }
    return [
        (
            nct_id,
            STATUSES[registry.by_id[nct_id].status],
            PHASES[registry.by_id[nct_id].phase],
            SEXES[registry.eligibility(nct_id, "sex")],
        )
        for nct_id, _ in named | terms
    ]
