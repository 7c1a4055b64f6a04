-- Why studies were stopped, by rules that read the reason that is stated; a study may have several.
select
    reason,
    count(distinct nct_id) as studies
from {marts}.fct_stop_reason
group by reason
order by studies desc, reason
