{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
    ],
) }}

-- The three points that are told from dates: the event of each date, and when its study came there.
{%- set points = [
    ("launch", "start", "start_moved", "launched_at"),
    ("primary_completion", "primary_completion", "primary_completion_moved", "completed_at"),
    ("completion", "completion", "completion_moved", "completed_at"),
] %}

with

studies as (
    select * from {{ of_changed_studies(ref("stg_studies")) }}
),

versions as (
    select * from {{ of_changed_studies(ref("stg_study_versions")) }}
),

changes as (
    select * from {{ of_changed_studies(ref("stg_study_changes")) }}
),

study_events as (
    select * from {{ of_changed_studies(ref("stg_study_events")) }}
    where
        event_type in (
            'status_changed', 'start_moved', 'primary_completion_moved', 'completion_moved',
            'results_posted', 'results_withdrawn'
        )
),

standing as (
    {{ standing_changes("versions", "changes") }}
),

observed as (
    select
        nct_id,
        count(*) as observed_versions,
        min(valid_from) as first_observed_at,
        -- A content was there from its last update on, whenever it was first seen.
        least(
            cast(min(valid_from) at time zone 'UTC' as date),
            (array_agg(last_update_post_date order by valid_from))[1]
        ) as known_since
    from versions
    group by nct_id
),

events as (
    select
        study_events.nct_id,
        study_events.event_type,
        study_events.old_value,
        study_events.new_value,
        standing.observed_at,
        standing.change_date
    from study_events
    inner join standing
        on
            study_events.nct_id = standing.nct_id
            and study_events.change_seq = standing.change_seq
),

-- What a study said, and from when on; at first what the first change of it says was there before.
said as (
    (
        select distinct on (nct_id, event_type)
            nct_id,
            event_type,
            old_value as value,
            cast('-infinity' as timestamp with time zone) as said_at,
            cast(null as date) as said_on
        from events
        order by nct_id, event_type, observed_at
    )
    union all
    select
        nct_id,
        event_type,
        new_value as value,
        observed_at as said_at,
        change_date as said_on
    from events
),

statuses as (
    select
        nct_id,
        said_at,
        said_on,
        value in (
            'RECRUITING', 'ENROLLING_BY_INVITATION', 'ACTIVE_NOT_RECRUITING', 'COMPLETED',
            'TERMINATED'
        ) as is_under_way,
        value in ('COMPLETED', 'TERMINATED') as is_completed
    from said
    where event_type = 'status_changed'
),

turns as (
    select
        nct_id,
        min(said_at) filter (where is_under_way) as launched_at,
        (array_agg(said_on order by said_at) filter (where is_under_way))[1] as launched_on,
        min(said_at) filter (where is_completed) as completed_at,
        (array_agg(said_on order by said_at) filter (where is_completed))[1] as completed_on
    from statuses
    group by nct_id
),

results as (
    select
        nct_id,
        min(said_at) filter (where event_type = 'results_posted') as posted_at,
        (array_agg(event_type order by said_at))[1] = 'results_withdrawn' as were_there_before
    from said
    where event_type in ('results_posted', 'results_withdrawn') and said_at > '-infinity'
    group by nct_id
),

-- A study whose status never changed has been in it since it was first seen.
placed as (
    select
        studies.*,
        turns.launched_on,
        turns.completed_on,
        case
            when turns.nct_id is not null then turns.launched_at
            when
                studies.overall_status in (
                    'RECRUITING', 'ENROLLING_BY_INVITATION', 'ACTIVE_NOT_RECRUITING', 'COMPLETED',
                    'TERMINATED'
                )
                then '-infinity'
        end as launched_at,
        case
            when turns.nct_id is not null then turns.completed_at
            when studies.overall_status in ('COMPLETED', 'TERMINATED') then '-infinity'
        end as completed_at
    from studies
    left join turns on studies.nct_id = turns.nct_id
),

-- Of dates that moved: the last day of what is a date.
parts as (
    select
        nct_id,
        event_type,
        said_at,
        case length(value) when 4 then 'year' when 7 then 'month' else 'day' end as precision,
        case
            when value ~ '^[1-9][0-9]{3}(-(0[1-9]|1[0-2])(-[0-9]{2})?)?$'
                then
                    make_date(
                        cast(left(value, 4) as integer),
                        cast(coalesce(nullif(substr(value, 6, 2), ''), '12') as integer),
                        1
                    )
        end as first_of_month,
        case
            when value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then cast(substr(value, 9, 2) as integer)
        end as day_of_month
    from said
    where event_type in ('start_moved', 'primary_completion_moved', 'completion_moved')
),

dates as (
    select
        nct_id,
        event_type,
        said_at,
        precision,
        case
            when day_of_month is null
                then cast(first_of_month + interval '1 month' - interval '1 day' as date)
            when
                day_of_month between 1 and extract(
                    day from first_of_month + interval '1 month' - interval '1 day'
                )
                then first_of_month + day_of_month - 1
        end as day
    from parts
),

-- Of each date that ever moved what was stated at the turn, and first.
stated as (
    select
        dates.nct_id,
    {%- for point, _, event, turn in points %}
        bool_or(dates.event_type = '{{ event }}') as has_{{ point }}_moved,
        (array_agg(dates.day order by dates.said_at desc) filter (
            where dates.event_type = '{{ event }}' and dates.said_at <= placed.{{ turn }}
            ))[1] as {{ point }}_at_turn,
        (array_agg(dates.precision order by dates.said_at desc) filter (
            where dates.event_type = '{{ event }}' and dates.said_at <= placed.{{ turn }}
            ))[1] as {{ point }}_precision_at_turn,
        (array_agg(dates.day order by dates.said_at) filter (
            where dates.event_type = '{{ event }}' and dates.day is not null
            ))[1] as {{ point }}_first,
        (array_agg(dates.precision order by dates.said_at) filter (
            where dates.event_type = '{{ event }}' and dates.day is not null
            ))[1] as {{ point }}_first_precision{{ "," if not loop.last }}
    {%- endfor %}
    from dates
    inner join placed on dates.nct_id = placed.nct_id
    group by dates.nct_id
),

points as (
    select
        placed.*,
    {%- for point, name, _, turn in points %}
        case
            when stated.has_{{ point }}_moved and placed.{{ turn }} is not null
                then stated.{{ point }}_at_turn
            else placed.{{ name }}_date
        end as {{ point }}_stated,
        case
            when stated.has_{{ point }}_moved and placed.{{ turn }} is not null
                then stated.{{ point }}_precision_at_turn
            else placed.{{ name }}_date_precision
        end as {{ point }}_stated_precision,
        stated.{{ point }}_first,
        stated.{{ point }}_first_precision{{ "," if not loop.last }}
    {%- endfor %}
    from placed
    left join stated on placed.nct_id = stated.nct_id
),

milestones as (
    select
        points.nct_id,
        {%- for point, _, _, turn in points %}
            {%- set turned_on = turn | replace("_at", "_on") %}
            case
                when points.{{ turn }} is null and points.overall_status = 'WITHDRAWN' then null
                when points.{{ turn }} is null then points.{{ point }}_stated
                else coalesce(
                    points.{{ point }}_stated, points.{{ point }}_first, points.{{ turned_on }}
                )
            end as {{ point }}_date,
            case
                when points.{{ turn }} is null and points.overall_status = 'WITHDRAWN' then null
                when points.{{ point }}_stated is not null then points.{{ point }}_stated_precision
                when points.{{ turn }} is null then null
                when points.{{ point }}_first is not null then points.{{ point }}_first_precision
                when points.{{ turned_on }} is not null then 'day'
            end as {{ point }}_date_precision,
            case
                when points.{{ turn }} is null and points.overall_status = 'WITHDRAWN'
                    then {{ "'never launched'" if point == "launch" else "null" }}
                when points.{{ turn }} is null
                    then case when points.{{ point }}_stated is not null then 'stated now' end
                when points.{{ point }}_stated is not null and points.{{ turn }} = '-infinity'
                    then 'stated when first seen'
                when points.{{ point }}_stated is not null then 'stated at the turn'
                when points.{{ point }}_first is not null then 'stated first'
                when points.{{ turned_on }} is not null then 'seen'
            end as {{ point }}_basis,
        {%- endfor %}
        case
            when results.were_there_before then observed.first_observed_at
            when results.posted_at is not null then results.posted_at
            when points.has_results then observed.first_observed_at
        end as results_first_observed_at,
        points.results_first_submitted_date,
        points.study_first_submitted_date,
        points.study_first_posted_date,
        observed.first_observed_at,
        observed.known_since,
        coalesce(observed.observed_versions, 0) as observed_versions
    from points
    left join observed on points.nct_id = observed.nct_id
    left join results on points.nct_id = results.nct_id
)

select
    nct_id,

    -- since when the history knows the study
    first_observed_at,
    known_since,
    observed_versions,
    known_since <= study_first_posted_date as is_known_since_registration,
    known_since <= greatest(launch_date, study_first_posted_date) as is_known_since_launch,

    -- launch and registration
    launch_date,
    launch_date_precision,
    launch_basis,
    study_first_submitted_date - launch_date as days_registered_after_launch,
    study_first_submitted_date > launch_date as is_registered_late,

    -- completion and results
    primary_completion_date,
    primary_completion_date_precision,
    primary_completion_basis,
    completion_date,
    completion_date_precision,
    completion_basis,
    results_first_submitted_date,
    results_first_observed_at
from milestones
