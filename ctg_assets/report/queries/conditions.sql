-- The conditions that most studies name: MeSH headings where the name is one.
select
    coalesce(c.mesh_term, c.condition_name) as condition,
    count(distinct f.nct_id) as studies,
    count(distinct f.nct_id) filter (where s.overall_status = 'RECRUITING') as recruiting
from {marts}.fct_study_condition as f
inner join {marts}.dim_condition as c on f.condition_key = c.condition_key
inner join {marts}.dim_study as s on f.nct_id = s.nct_id
group by 1
order by studies desc, condition
limit 15
