-- For how many months interventional studies recruited: the median of those of which it is known, by phase.
select
    s.phase,
    round(percentile_cont(0.5) within group (order by r.recruitment_months))::integer as months,
    count(*) as studies
from {marts}.fct_recruitment as r
inner join {marts}.dim_study as s on r.nct_id = s.nct_id
where s.study_type = 'INTERVENTIONAL' and r.recruitment_months is not null
group by s.phase
order by
    array_position(array[
        'EARLY_PHASE1', 'PHASE1', 'PHASE1/PHASE2', 'PHASE2', 'PHASE2/PHASE3', 'PHASE3', 'PHASE4', 'NA'
    ], s.phase),
    s.phase
