{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
        {"columns": ["status"], "type": "spgist"},
    ],
) }}

{% set as_of = var("as_of") -%}

with

periods as (
    select * from {{ ref("fct_results_reporting_period") }}
),

-- The day asked for, and until when contents count. Before the history begins, what was observed
-- first stands for what was.
observed as (
    select
        {% if as_of -%}
            cast('{{ as_of }}' as date) as today,
            greatest(
                cast(cast('{{ as_of }}' as date) + 1 as timestamp) at time zone 'UTC',
                (select min(periods.valid_from) from periods) + interval '1 microsecond'
            ) as before
        {%- else -%}
            data_date as today,
            cast('infinity' as timestamp with time zone) as before
        {%- endif %}
    from {{ ref("int_data_date") }}
),

-- What each study said at the end of the day.
studies as (
    select
        periods.*,
        observed.today,
        coalesce(observed.today >= periods.results_due_from, false) as results_due
    from periods
    cross join observed
    where
        not periods.is_deleted
        and coalesce(periods.valid_from < observed.before, true)
        and coalesce(periods.valid_to >= observed.before, true)
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
                when is_in_quality_control then standing_submitted_date - due_date
                when today - due_date > 30 then today - due_date
            end, 0
        ), 0) as days_late,
        nullif(greatest(
            coalesce(results_first_submitted_date, standing_submitted_date, today)
            - regulation_due_date, 0
        ), 0) as regulation_days_late
    from studies
)

select
    nct_id,

    -- who has to report
    is_act,
    is_pact,
    is_highly_likely,
    is_no_longer_act,
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
    has_late_certificate,

    -- results, and their quality control
    has_results,
    have_results_vanished,
    results_first_submitted_date,
    is_in_quality_control,
    is_submission_cancelled,
    submission_rounds,
    cancelled_rounds,
    first_submitted_date,
    standing_submitted_date,

    -- what follows
    case when results_due then status_once_due else status_until_due end as status,
    days_late_minimum,
    days_late,
    nullif(greatest(days_late_minimum - 30, 0), 0) as finable_days,
    regulation_days_late,

    -- what cannot be
    coalesce(today >= inconsistent_dates_from, false) as has_inconsistent_dates
from days
