{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
    ],
) }}

with

studies as (
    select
        *,
        case when not enrollment_is_unknown then enrollment end as known_enrollment
    from {{ of_changed_studies(ref("stg_studies")) }}
),

sites as (
    select
        nct_id,
        count(*) as site_count
    from {{ of_changed_studies(ref("stg_facilities")) }}
    group by nct_id
),

versions as (
    select * from {{ of_changed_studies(ref("stg_study_versions")) }}
),

observed as (
    select
        nct_id,
        cast(min(valid_from) at time zone 'UTC' as date) as first_observed_date
    from versions
    group by nct_id
),

study_changes as (
    select * from {{ of_changed_studies(ref("stg_study_changes")) }}
),

study_events as (
    select * from {{ of_changed_studies(ref("stg_study_events")) }}
),

changes as (
    {{ standing_changes("versions", "study_changes") }}
),

events as (
    select
        study_events.nct_id,
        study_events.event_type,
        study_events.old_value,
        study_events.new_value,
        study_events.days,
        changes.observed_at as valid_from
    from study_events
    inner join changes on study_events.change_seq = changes.change_seq
    where
        study_events.event_type in (
            'start_moved', 'primary_completion_moved', 'completion_moved',
            'enrollment_changed', 'enrollment_type_changed'
        )
),

-- How often dates moved, and the first that was stated.
moves as (
    select
        nct_id,
        event_type,
        valid_from,
        case
            when
                coalesce(old_value, new_value)
                ~ '^(?!0000)[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$'
                then coalesce(old_value, new_value)
        end as stated,
        count(days) over (partition by nct_id, event_type) as moves
    from events
    where event_type in ('start_moved', 'primary_completion_moved', 'completion_moved')
),

first_stated as (
    select distinct on (nct_id, event_type)
        nct_id,
        event_type,
        moves,
        stated,
        case length(stated) when 4 then 'year' when 7 then 'month' else 'day' end as precision,
        -- A day is added to its month, since there may be no such day.
        cast(left(stated || '-01', 7) || '-01' as date)
        + case length(stated) when 10 then cast(right(stated, 2) as integer) - 1 else 0 end
            as first_day
    from moves
    order by nct_id asc, event_type asc, stated is null asc, valid_from asc
),

slipped as (
    select
        nct_id,
        max(moves) filter (where event_type = 'start_moved') as start_moves,
        max(stated) filter (where event_type = 'start_moved') as start_first_stated,
        max(first_day) filter (where event_type = 'start_moved') as start_first_day,
        max(precision) filter (where event_type = 'start_moved') as start_precision,
        max(moves) filter (where event_type = 'primary_completion_moved')
            as primary_completion_moves,
        max(stated) filter (where event_type = 'primary_completion_moved')
            as primary_completion_first_stated,
        max(first_day) filter (where event_type = 'primary_completion_moved')
            as primary_completion_first_day,
        max(precision) filter (where event_type = 'primary_completion_moved')
            as primary_completion_precision,
        max(moves) filter (where event_type = 'completion_moved') as completion_moves,
        max(stated) filter (where event_type = 'completion_moved') as completion_first_stated,
        max(first_day) filter (where event_type = 'completion_moved') as completion_first_day,
        max(precision) filter (where event_type = 'completion_moved') as completion_precision
    from first_stated
    group by nct_id
),

-- The number of participants and its type before each change of either, and as they are now. What
-- a change leaves alone is what the next one that changes it says that it was before.
enrollment_changes as (
    select
        nct_id,
        valid_from,
        max(old_value) filter (where event_type = 'enrollment_changed') as old_number,
        max(old_value) filter (where event_type = 'enrollment_type_changed') as old_type,
        count(*) filter (where event_type = 'enrollment_changed') as number_changes,
        count(*) filter (where event_type = 'enrollment_type_changed') as type_changes
    from events
    where event_type in ('enrollment_changed', 'enrollment_type_changed')
    group by nct_id, valid_from
),

enrollment_runs as (
    select
        *,
        sum(number_changes) over later as later_number_changes,
        sum(type_changes) over later as later_type_changes
    from enrollment_changes
    window later as (partition by nct_id order by valid_from desc)
),

enrollments_before as (
    select
        nct_id,
        valid_from,
        later_number_changes,
        later_type_changes,
        max(old_number) over (partition by nct_id, later_number_changes) as old_number,
        max(old_type) over (partition by nct_id, later_type_changes) as old_type
    from enrollment_runs
),

enrollments as (
    select
        before.nct_id,
        before.valid_from as stated_until,
        case
            when before.later_number_changes = 0 then studies.known_enrollment
            when before.old_number ~ '^[0-9]{1,18}$' and before.old_number <> '99999999'
                then cast(before.old_number as bigint)
        end as enrollment,
        case
            when before.later_type_changes = 0 then studies.enrollment_type else before.old_type
        end as enrollment_type
    from enrollments_before as before
    inner join studies on before.nct_id = studies.nct_id

    union all

    select
        nct_id,
        cast('infinity' as timestamp with time zone) as stated_until,
        known_enrollment as enrollment,
        enrollment_type
    from studies
),

planned as (
    select
        nct_id,
        (array_agg(enrollment order by stated_until asc))[1] as first_planned_enrollment,
        (array_agg(enrollment order by stated_until desc))[1] as last_planned_enrollment
    from enrollments
    where enrollment_type = 'ESTIMATED' and enrollment is not null
    group by nct_id
),

measured as (
    select
        studies.*,
        sites.site_count,
        observed.first_observed_date,
        planned.first_planned_enrollment,
        planned.last_planned_enrollment,
        case when studies.enrollment_type = 'ACTUAL' then studies.known_enrollment end as enrolled,
        case
            when
                studies.start_date is null
                or studies.primary_completion_date is null
                or studies.primary_completion_date_type is null
                then 'incomplete'
            when
                studies.primary_completion_date_type = 'ACTUAL'
                and studies.start_date_type = 'ACTUAL'
                then 'actual'
            when
                studies.primary_completion_date_type = 'ACTUAL' and studies.start_date_type is null
                then 'start untyped'
            else 'estimated'
        end as recruitment_dates,
        studies.start_date_precision = 'day' and studies.primary_completion_date_precision = 'day'
            as is_recruitment_known_to_the_day,
        {{ days_between(
            "studies.start_date_first", "studies.start_date_precision",
            "studies.primary_completion_date_first", "studies.primary_completion_date_precision"
        ) }} as days_to_primary_completion,
        case
            when
                studies.completion_date_type = 'ACTUAL'
                and coalesce(studies.start_date_type, 'ACTUAL') = 'ACTUAL'
                then
                    {{ days_between(
                        "studies.start_date_first", "studies.start_date_precision",
                        "studies.completion_date_first", "studies.completion_date_precision"
                    ) }}
        end as days_to_completion,
        case
            when studies.primary_completion_date_type = 'ACTUAL'
                then studies.primary_completion_date
        end as ended_date,
        coalesce(slipped.start_first_stated, studies.start_month_year) as start_first_stated,
        coalesce(slipped.start_moves, 0) as start_moves,
        case
            when studies.start_date is null then null
            when slipped.start_first_day is null then 0
            else
                {{ days_between(
                    "slipped.start_first_day", "slipped.start_precision",
                    "studies.start_date_first", "studies.start_date_precision"
                ) }}
        end as start_slippage_days,
        coalesce(slipped.primary_completion_first_stated, studies.primary_completion_month_year)
            as primary_completion_first_stated,
        coalesce(slipped.primary_completion_moves, 0) as primary_completion_moves,
        case
            when studies.primary_completion_date is null then null
            when slipped.primary_completion_first_day is null then 0
            else
                {{ days_between(
                    "slipped.primary_completion_first_day", "slipped.primary_completion_precision",
                    "studies.primary_completion_date_first", "studies.primary_completion_date_precision"
                ) }}
        end as primary_completion_slippage_days,
        coalesce(slipped.completion_first_stated, studies.completion_month_year)
            as completion_first_stated,
        coalesce(slipped.completion_moves, 0) as completion_moves,
        case
            when studies.completion_date is null then null
            when slipped.completion_first_day is null then 0
            else
                {{ days_between(
                    "slipped.completion_first_day", "slipped.completion_precision",
                    "studies.completion_date_first", "studies.completion_date_precision"
                ) }}
        end as completion_slippage_days
    from studies
    left join sites on studies.nct_id = sites.nct_id
    left join observed on studies.nct_id = observed.nct_id
    left join planned on studies.nct_id = planned.nct_id
    left join slipped on studies.nct_id = slipped.nct_id
),

durations as (
    select
        *,
        case
            when
                recruitment_dates in ('actual', 'start untyped')
                and days_to_primary_completion >= 0
                then days_to_primary_completion
        end as recruitment_days,
        case when days_to_completion >= 0 then days_to_completion end as study_days
    from measured
),

-- A month is 30.4375 days, a twelfth of 365.25.
months as (
    select
        *,
        recruitment_days / 30.4375 as recruitment_months
    from durations
)

select
    nct_id,

    -- how long
    recruitment_dates,
    is_recruitment_known_to_the_day,
    recruitment_days,
    round(recruitment_months, 2) as recruitment_months,
    study_days,
    round(study_days / 30.4375, 2) as study_months,

    -- how many, and how fast
    enrolled,
    site_count,
    round(enrolled / nullif(recruitment_months, 0), 4) as enrolled_per_month,
    round(cast(enrolled as numeric) / site_count, 4) as enrolled_per_site,
    round(enrolled / nullif(recruitment_months, 0) / site_count, 4)
        as enrolled_per_site_and_month,

    -- as planned
    first_planned_enrollment,
    last_planned_enrollment,
    round(cast(enrolled as numeric) / nullif(first_planned_enrollment, 0), 4)
        as share_of_first_planned,
    round(cast(enrolled as numeric) / nullif(last_planned_enrollment, 0), 4)
        as share_of_last_planned,
    first_observed_date,
    start_first_stated,
    start_moves,
    start_slippage_days,
    primary_completion_first_stated,
    primary_completion_moves,
    primary_completion_slippage_days,
    completion_first_stated,
    completion_moves,
    completion_slippage_days,

    -- until results
    results_first_submitted_date - ended_date as days_to_results_submitted,
    results_first_posted_date - ended_date as days_to_results_posted,
    case
        when ended_date is not null
            then coalesce(
                results_first_submitted_date <= ended_date + interval '12 months', false
            )
    end as has_results_within_12_months,
    case
        when ended_date is not null
            then coalesce(
                results_first_submitted_date <= ended_date + interval '24 months', false
            )
    end as has_results_within_24_months,
    case
        when ended_date is not null
            then coalesce(
                results_first_submitted_date <= ended_date + interval '36 months', false
            )
    end as has_results_within_36_months
from months
