{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
    ],
) }}

with

milestones as (
    select * from {{ of_changed_studies(ref("fct_study_milestones")) }}
),

changes as (
    select
        *,
        coalesce(phase <> 'before launch', true) as is_since_launch,
        outcome_list = 'primary' as is_primary
    from {{ of_changed_studies(ref("fct_outcome_change")) }}
),

counted as (
    select
        nct_id,
        count(*) filter (where is_primary and is_since_launch) as primary_changes,
        count(*) filter (where is_since_launch and weight = 'major') as major_changes,
        count(*) filter (where not is_primary and is_since_launch) as secondary_changes,
        count(*) filter (where is_primary and phase = 'before launch')
            as primary_changes_before_launch,
        count(*) filter (where is_primary and phase = 'during recruitment')
            as primary_changes_during_recruitment,
        count(*) filter (where is_primary and phase = 'after primary completion')
            as primary_changes_after_primary_completion,
        count(*) filter (where is_primary and phase = 'after completion')
            as primary_changes_after_completion,
        count(*) filter (where is_primary and phase = 'after results')
            as primary_changes_after_results,
        count(*) filter (where is_primary and is_silent and is_since_launch)
            as silent_primary_changes,
        min(change_date) filter (where is_primary and is_since_launch) as first_change_date,
        max(change_date) filter (where is_primary and is_since_launch) as last_change_date
    from changes
    group by nct_id
),

-- The list at launch: the latest one, without what changes since have brought, with what they took.
listed as (
    select
        nct_id,
        measure,
        time_frame,
        1 as times,
        true as is_latest
    from {{ of_changed_studies(ref("stg_design_outcomes")) }}
    where outcome_type = 'primary'
    union all
    select
        nct_id,
        new_measure as measure,
        new_time_frame as time_frame,
        -1 as times,
        false as is_latest
    from changes
    where is_primary and is_since_launch and kind not in ('removed', 'moved to secondary')
    union all
    select
        nct_id,
        old_measure as measure,
        old_time_frame as time_frame,
        1 as times,
        false as is_latest
    from changes
    where is_primary and is_since_launch and kind not in ('added', 'moved to primary')
),

lines as (
    select
        nct_id,
        times,
        is_latest,
        coalesce(measure, '') || coalesce(' [' || time_frame || ']', '') as outcome
    from listed
),

latest_lists as (
    select
        nct_id,
        string_agg(outcome, E'\n' order by outcome) as outcomes
    from lines
    where is_latest
    group by nct_id
),

balanced as (
    select
        lines.nct_id,
        lines.outcome,
        sum(lines.times) as times
    from lines
    inner join counted on lines.nct_id = counted.nct_id
    where counted.primary_changes > 0
    group by lines.nct_id, lines.outcome
),

baseline_lists as (
    select
        nct_id,
        string_agg(outcome, E'\n' order by outcome) as outcomes
    from balanced
    -- None of those that are not there; some lists name an outcome twice.
    cross join lateral generate_series(1, times)
    group by nct_id
)

select
    milestones.nct_id,

    -- what is known
    milestones.known_since,
    milestones.launch_date,
    milestones.is_known_since_launch,
    milestones.is_registered_late,

    -- whether, how often, when
    coalesce(counted.primary_changes > 0, false) as has_primary_change,
    coalesce(counted.major_changes > 0, false) as has_major_change,
    coalesce(counted.primary_changes, 0) as primary_changes,
    coalesce(counted.major_changes, 0) as major_changes,
    coalesce(counted.silent_primary_changes, 0) as silent_primary_changes,
    coalesce(counted.secondary_changes, 0) as secondary_changes,
    coalesce(counted.primary_changes_before_launch, 0) as primary_changes_before_launch,
    coalesce(counted.primary_changes_during_recruitment, 0) as primary_changes_during_recruitment,
    coalesce(counted.primary_changes_after_primary_completion, 0)
        as primary_changes_after_primary_completion,
    coalesce(counted.primary_changes_after_completion, 0) as primary_changes_after_completion,
    coalesce(counted.primary_changes_after_results, 0) as primary_changes_after_results,
    counted.first_change_date,
    counted.last_change_date,

    -- the lists themselves
    case
        when counted.primary_changes > 0 then baseline_lists.outcomes else latest_lists.outcomes
    end as baseline_primary_outcomes,
    latest_lists.outcomes as latest_primary_outcomes
from milestones
left join counted on milestones.nct_id = counted.nct_id
left join latest_lists on milestones.nct_id = latest_lists.nct_id
left join baseline_lists on milestones.nct_id = baseline_lists.nct_id
