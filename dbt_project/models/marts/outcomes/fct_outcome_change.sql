{{ config(
    unique_key="outcome_change_key",
    indexes=[
        {"columns": ["outcome_change_key"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["change_date"]},
    ],
) }}

with

versions as (
    select * from {{ of_changed_studies(ref("stg_study_versions")) }}
),

changes as (
    select * from {{ of_changed_studies(ref("stg_study_changes")) }}
),

milestones as (
    select * from {{ of_changed_studies(ref("fct_study_milestones")) }}
),

standing as (
    {{ standing_changes("versions", "changes") }}
),

-- JSON may name U+0000, which is no text to Postgres.
study_events as (
    select
        nct_id,
        change_seq,
        position,
        event_type,
        similarity,
        cast(replace(old_value, '\u0000', '\ufffd') as json) as old_outcome,
        cast(replace(new_value, '\u0000', '\ufffd') as json) as new_outcome
    from {{ of_changed_studies(ref("stg_study_events")) }}
    where event_type like 'primary\_outcome\_%' or event_type like 'secondary\_outcome\_%'
),

told as (
    select
        study_events.*,
        standing.observed_at,
        standing.change_date,
        standing.previous_last_observed_at,
        standing.old_version_number,
        standing.new_version_number,
        standing.is_silent,
        milestones.launch_date,
        milestones.launch_basis,
        milestones.primary_completion_date,
        milestones.completion_date,
        milestones.completion_basis,
        coalesce(milestones.results_first_submitted_date <= standing.change_date, false)
            as is_submitted,
        coalesce(milestones.results_first_observed_at <= standing.observed_at, false) as is_posted,
        case
            when study_events.event_type like 'primary%' then 'primary'
            when study_events.event_type like '%\_to\_primary' then 'primary'
            else 'secondary'
        end as outcome_list,
        replace(
            regexp_replace(study_events.event_type, '^(primary|secondary)_outcome_', ''), '_', ' '
        ) as kind
    from study_events
    inner join standing
        on
            study_events.nct_id = standing.nct_id
            and study_events.change_seq = standing.change_seq
    inner join milestones on study_events.nct_id = milestones.nct_id
)

select
    {{ spelling_key(["change_seq", "position"]) }} as outcome_change_key,
    nct_id,

    -- which change, and when
    change_seq,
    old_version_number,
    new_version_number,
    change_date,
    cast(previous_last_observed_at at time zone 'UTC' as date) as last_seen_before_date,
    observed_at,
    is_silent,

    -- what changed
    outcome_list,
    kind,
    case
        when outcome_list = 'primary' and kind in (
            'added', 'removed', 'moved to primary', 'moved to secondary'
        ) then 'major'
        else 'minor'
    end as weight,
    similarity,
    old_outcome ->> 'measure' as old_measure,
    new_outcome ->> 'measure' as new_measure,
    old_outcome ->> 'timeFrame' as old_time_frame,
    new_outcome ->> 'timeFrame' as new_time_frame,
    old_outcome ->> 'description' as old_description,
    new_outcome ->> 'description' as new_description,

    -- where in the life of the study
    case
        when is_posted then 'after results'
        when change_date >= completion_date then 'after completion'
        when change_date >= primary_completion_date then 'after primary completion'
        when change_date >= launch_date then 'during recruitment'
        when change_date < launch_date or launch_basis = 'never launched' then 'before launch'
    end as phase,
    change_date - launch_date as days_since_launch,
    change_date - completion_date as days_since_completion,
    launch_basis,
    completion_basis,
    is_submitted or is_posted as are_results_submitted,
    is_posted as are_results_posted
from told
