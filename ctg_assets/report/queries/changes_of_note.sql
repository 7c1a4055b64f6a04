-- The most important changes of these seven days: one line a study, that of its first rank here.
with

week as (
    select
        coalesce(max(data_timestamp), now()) as ends,
        (select min(observed_at) from {staging}.study_changes where not is_backfill) as history_begins
    from {staging}.load_info
),

changes as (
    select c.*
    from {staging}.study_changes as c
    cross join week as w
    where
        c.observed_at > w.ends - interval '7 days'
        and c.observed_at <= w.ends
        and c.observed_at > w.history_begins
),

ranked as (
    select
        change_seq,
        nct_id,
        observed_at,
        kind as what,
        null as subject,
        null as old_value,
        null as new_value,
        null::integer as days,
        null::boolean as after_primary_completion,
        3 as importance
    from changes
    where
        kind = 'delete'
        -- Some come back.
        and nct_id not in (select nct_id from {marts}.dim_study)
    union all
    select
        e.change_seq,
        e.nct_id,
        c.observed_at,
        e.event_type,
        e.subject,
        e.old_value,
        e.new_value,
        e.days,
        e.after_primary_completion,
        case
            when e.event_type in ('results_withdrawn', 'reference_retracted') then 1
            when e.event_type = 'status_changed' and e.new_value in ('TERMINATED', 'SUSPENDED', 'WITHDRAWN') then 2
            when e.event_type like 'primary\_outcome\_%' and e.after_primary_completion then 4
            when e.event_type = 'results_posted' then 5
            when e.event_type like 'primary\_outcome\_%' then 6
            when e.event_type = 'status_changed' then 7
            when e.event_type = 'sponsor_changed' then 8
            when e.event_type = 'primary_completion_moved' and abs(e.days) >= 180 then 9
        end
    from {staging}.study_events as e
    inner join changes as c on e.change_seq = c.change_seq
),

first_of_study as (
    select distinct on (nct_id) *
    from ranked
    where importance is not null
    order by nct_id, importance, change_seq
)

select
    f.nct_id,
    coalesce(s.brief_title, '(not in the tables any more)') as title,
    f.what,
    f.subject,
    f.old_value,
    f.new_value,
    f.days,
    f.after_primary_completion,
    (f.observed_at at time zone 'UTC')::date as observed
from first_of_study as f
left join {marts}.dim_study as s on f.nct_id = s.nct_id
order by f.importance, s.enrollment desc nulls last, f.nct_id
limit 30
