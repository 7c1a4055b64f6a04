-- How many studies something happened to in the seven days up to the day of the data. The first walk, which
-- finds every study for the first time, is left out.
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
)

select
    kind as what,
    count(distinct nct_id) as studies
from changes
where kind <> 'update'
group by kind
union all
select
    e.event_type,
    count(distinct e.nct_id)
from {staging}.study_events as e
inner join changes as c on e.change_seq = c.change_seq
group by e.event_type
order by studies desc, what
