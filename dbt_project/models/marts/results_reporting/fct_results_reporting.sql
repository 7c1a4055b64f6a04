{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
        {"columns": ["status"], "type": "spgist"},
    ],
) }}

-- The day on which 42 CFR part 11 came into force.
{% set rule_effective_date = "make_date(2017, 1, 18)" -%}
{% set as_of = var("as_of") -%}

with

as_of as (
    select coalesce({{ "cast('" ~ as_of ~ "' as date)" if as_of else "null" }}, data_date) as today
    from {{ ref("int_data_date") }}
),

us_sites as (
    select distinct nct_id
    from {{ ref("stg_countries") }}
    where
        not removed
        -- The territories of the rule; the registry has called the Virgin Islands by both names.
        and name in (
            'United States', 'American Samoa', 'Guam', 'Northern Mariana Islands', 'Puerto Rico',
            'Virgin Islands (U.S.)', 'U.S. Virgin Islands'
        )
),

-- Those of a kind that the FDA regulates, if it regulates them.
regulated_interventions as (
    select distinct nct_id
    from {{ ref("stg_interventions") }}
    where
        intervention_type in (
            'DRUG', 'DEVICE', 'BIOLOGICAL', 'GENETIC', 'RADIATION', 'COMBINATION_PRODUCT',
            'DIAGNOSTIC_TEST'
        )
),

rounds as (
    select
        nct_id,
        position,
        release_date as submitted_date,
        unrelease_date is not null
        or unrelease_date_as_sent is not null
        or coalesce(unrelease_date_unknown, false) as is_cancelled
    from {{ ref("stg_submissions") }}
),

last_cancellations as (
    select
        nct_id,
        max(position) as position
    from rounds
    where is_cancelled
    group by nct_id
),

-- Rounds of quality control: all of them, and those that no cancellation follows.
submissions as (
    select
        rounds.nct_id,
        count(rounds.position) as rounds,
        count(*) filter (where rounds.is_cancelled) as cancelled_rounds,
        min(rounds.submitted_date) as first_submitted_date,
        min(rounds.submitted_date) filter (
            where rounds.position > coalesce(last_cancellations.position, 0)
        ) as standing_submitted_date,
        bool_or(rounds.position > coalesce(last_cancellations.position, 0)) as is_standing
    from rounds
    left join last_cancellations on rounds.nct_id = last_cancellations.nct_id
    group by rounds.nct_id
),

studies as (
    select
        studies.nct_id,
        as_of.today,
        studies.overall_status,
        studies.start_date,
        coalesce(studies.study_type = 'INTERVENTIONAL', false) as is_interventional,
        coalesce(studies.phase, '') as phase,
        coalesce(designs.primary_purpose, '') <> 'DEVICE_FEASIBILITY' as is_no_feasibility_study,
        coalesce(studies.is_fda_regulated_drug or studies.is_fda_regulated_device, false)
            as is_regulated,
        studies.is_fda_regulated_drug is null and studies.is_fda_regulated_device is null
            as is_regulation_unknown,
        unregulated.nct_id is not null as was_unregulated_2017,
        regulated_interventions.nct_id is not null as has_regulated_intervention,
        us_sites.nct_id is not null as has_us_site,
        studies.primary_completion_date,
        studies.primary_completion_date_type,
        studies.completion_date as last_completion_date,
        coalesce(studies.primary_completion_date, studies.completion_date) as completion_date,
        case
            when studies.primary_completion_date is not null then 'primary completion'
            when studies.completion_date is not null then 'completion'
        end as completion_date_kind,
        coalesce(
            case
                when studies.primary_completion_date is not null
                    then studies.primary_completion_date_precision <> 'day'
                else studies.completion_date_precision <> 'day'
            end, false
        ) as is_completion_date_filled_up,
        coalesce(
            studies.primary_completion_date, studies.completion_date, studies.verification_date
        ) as imputed_completion_date,
        studies.disposition_first_submitted_date as certificate_date,
        studies.disposition_first_submitted_date is not null as has_certificate,
        studies.results_first_submitted_date,
        studies.results_first_submitted_date is not null as has_results,
        coalesce(studies.results_waived, false) as are_results_waived,
        coalesce(submissions.rounds, 0) as submission_rounds,
        coalesce(submissions.cancelled_rounds, 0) as cancelled_rounds,
        submissions.first_submitted_date,
        submissions.standing_submitted_date,
        coalesce(submissions.is_standing, false) as is_submission_standing
    from {{ ref("stg_studies") }} as studies
    cross join as_of
    left join {{ ref("stg_designs") }} as designs on studies.nct_id = designs.nct_id
    left join {{ ref("int_unregulated_2017") }} as unregulated
        on studies.nct_id = unregulated.nct_id
    left join regulated_interventions on studies.nct_id = regulated_interventions.nct_id
    left join us_sites on studies.nct_id = us_sites.nct_id
    left join submissions on studies.nct_id = submissions.nct_id
),

-- Who has to report.
of_a_kind as (
    select
        *,
        is_interventional
        and phase in ('PHASE1/PHASE2', 'PHASE2', 'PHASE2/PHASE3', 'PHASE3', 'PHASE4', 'NA')
        and is_no_feasibility_study
        and coalesce(overall_status, '') <> 'WITHDRAWN' as is_of_kind
    from studies
),

populations as (
    select
        *,
        coalesce(
            is_of_kind and is_regulated and start_date >= {{ rule_effective_date }}, false
        ) as is_act,
        coalesce(
            is_of_kind
            and start_date < {{ rule_effective_date }}
            and completion_date >= {{ rule_effective_date }}
            and (
                is_regulated
                or (
                    is_regulation_unknown
                    and not was_unregulated_2017
                    and has_regulated_intervention
                    and has_us_site
                )
            ), false
        ) as is_pact,
        coalesce(
            is_interventional
            and overall_status in ('COMPLETED', 'TERMINATED')
            and phase not in ('EARLY_PHASE1', 'PHASE1')
            and imputed_completion_date is not null
            and has_us_site, false
        ) as is_highly_likely
    from of_a_kind
),

-- When results are due.
deadlines as (
    select
        *,
        (is_act or is_pact)
        and coalesce(
            today > completion_date + interval '1 year 30 days'
            and (not has_certificate or today > completion_date + interval '3 years 30 days'),
            false
        ) as results_due,
        cast(
            case
                when not (is_act or is_pact) then null
                when has_certificate then completion_date + interval '3 years'
                else completion_date + interval '365 days'
            end as date
        ) as due_date,
        cast(
            case
                when are_results_waived or not (is_act or is_pact or is_highly_likely) then null
                when
                    coalesce(primary_completion_date_type, '') <> 'ACTUAL'
                    or primary_completion_date < {{ rule_effective_date }}
                    then null
                when certificate_date < primary_completion_date + interval '1 year'
                    then greatest(
                        primary_completion_date + interval '1 year',
                        certificate_date + interval '2 years'
                    )
                else primary_completion_date + interval '1 year'
            end as date
        ) as regulation_due_date
    from populations
),

-- By how many days they are late; nobody is late by none, or fewer.
days as (
    select
        *,
        nullif(greatest(
            case
                when not results_due then 0
                when has_results then results_first_submitted_date - due_date
                when submission_rounds > 0 then first_submitted_date - due_date
                when today - due_date > 30 then today - due_date
            end, 0
        ), 0) as days_late_minimum,
        nullif(greatest(
            case
                when not results_due then 0
                when has_results then results_first_submitted_date - due_date
                when is_submission_standing then standing_submitted_date - due_date
                when today - due_date > 30 then today - due_date
            end, 0
        ), 0) as days_late,
        nullif(greatest(
            coalesce(results_first_submitted_date, standing_submitted_date, today)
            - regulation_due_date, 0
        ), 0) as regulation_days_late
    from deadlines
)

select
    nct_id,

    -- who has to report
    is_act,
    is_pact,
    is_highly_likely,
    was_unregulated_2017,
    has_us_site,

    -- when
    completion_date,
    completion_date_kind,
    is_completion_date_filled_up,
    imputed_completion_date,
    results_due,
    due_date,
    regulation_due_date,
    are_results_waived,

    -- certificate of delay
    has_certificate,
    certificate_date,
    coalesce(certificate_date > completion_date + interval '1 year', false) as has_late_certificate,

    -- results, and their quality control
    has_results,
    results_first_submitted_date,
    not has_results and is_submission_standing as is_in_quality_control,
    not has_results and submission_rounds > 0 and not is_submission_standing
        as is_submission_cancelled,
    submission_rounds,
    cancelled_rounds,
    first_submitted_date,
    standing_submitted_date,

    -- what follows
    case
        when not (is_act or is_pact) then null
        when has_results and days_late is null then 'reported'
        when has_results then 'reported-late'
        when not results_due then 'ongoing'
        when is_submission_standing and days_late is null then 'reported'
        when is_submission_standing then 'reported-late'
        when days_late is null then 'ongoing'
        when submission_rounds > 0 then 'overdue-cancelled'
        else 'overdue'
    end as status,
    days_late_minimum,
    days_late,
    nullif(greatest(days_late_minimum - 30, 0), 0) as finable_days,
    regulation_days_late,

    -- what cannot be
    coalesce(
        (primary_completion_date is null or primary_completion_date < today)
        and last_completion_date < today
        and overall_status in (
            'UNKNOWN', 'ACTIVE_NOT_RECRUITING', 'NOT_YET_RECRUITING', 'ENROLLING_BY_INVITATION',
            'SUSPENDED', 'RECRUITING'
        ), false
    ) as has_inconsistent_dates
from days
