-- What applicable and probable trials (FDAAA 801) have done about their results.
select
    status,
    count(*) as trials
from {marts}.fct_results_reporting
where status is not null
group by status
order by array_position(array['ongoing', 'reported', 'reported-late', 'overdue', 'overdue-cancelled'], status)
