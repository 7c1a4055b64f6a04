-- What studies that recruit now are about, and how many participants they plan for together.
select
    coalesce(c.mesh_term, c.condition_name) as condition,
    count(distinct f.nct_id) as studies,
    sum(s.enrollment) as participants
from (select distinct nct_id, condition_key from {marts}.fct_study_condition) as f
inner join {marts}.dim_condition as c on f.condition_key = c.condition_key
inner join {marts}.dim_study as s on f.nct_id = s.nct_id
where s.overall_status = 'RECRUITING'
group by 1
order by studies desc, condition
limit 15
