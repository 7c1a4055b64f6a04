-- Interventional studies by phase; NA are those that are of no drug or biological product.
select
    phase,
    count(*) as studies
from {marts}.dim_study
where study_type = 'INTERVENTIONAL'
group by phase
order by
    array_position(array[
        'EARLY_PHASE1', 'PHASE1', 'PHASE1/PHASE2', 'PHASE2', 'PHASE2/PHASE3', 'PHASE3', 'PHASE4', 'NA'
    ], phase),
    phase
