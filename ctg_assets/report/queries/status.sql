-- Studies by recruitment status, in the order in which a study goes through them.
select
    overall_status as status,
    count(*) as studies
from {marts}.dim_study
group by overall_status
order by
    array_position(array[
        'NOT_YET_RECRUITING', 'RECRUITING', 'ENROLLING_BY_INVITATION', 'ACTIVE_NOT_RECRUITING', 'SUSPENDED',
        'COMPLETED', 'TERMINATED', 'WITHDRAWN', 'UNKNOWN'
    ], overall_status),
    overall_status
