{{ config(
    unique_key="sponsor_key",
    indexes=[{"columns": ["sponsor_key"], "unique": true}],
) }}

with

trials as (
    select
        studies.lead_sponsor_key as sponsor_key,
        reporting.status,
        reporting.days_late,
        reporting.finable_days
    from {{ ref("fct_results_reporting") }} as reporting
    inner join {{ ref("dim_study") }} as studies on reporting.nct_id = studies.nct_id
    where reporting.status <> 'no-longer-act' and studies.lead_sponsor_key is not null
),

counts as (
    select
        sponsor_key,
        count(*) as trials,
        count(*) filter (where status <> 'ongoing') as trials_due,
        count(*) filter (where status in ('reported', 'reported-late')) as trials_reported,
        count(*) filter (where status = 'reported-late') as trials_reported_late,
        count(*) filter (where status in ('overdue', 'overdue-cancelled')) as trials_overdue,
        coalesce(sum(days_late), 0) as days_late,
        coalesce(sum(finable_days), 0) as finable_days
    from trials
    group by sponsor_key
),

-- Whole numbers divided: what is over is cut off.
percentages as (
    select
        *,
        100 * trials_reported / nullif(trials_due, 0) as percent_reported
    from counts
)

select
    percentages.sponsor_key,
    sponsors.sponsor_name,
    coalesce(sponsors.agency_class = 'INDUSTRY', false) as is_industry,
    percentages.trials,
    percentages.trials_due,
    percentages.trials_reported,
    percentages.trials_reported_late,
    percentages.trials_overdue,
    percentages.days_late,
    percentages.finable_days,
    percentages.percent_reported,
    case
        when percentages.trials_due > 0
            then rank() over (order by percentages.percent_reported desc nulls last)
    end as sponsor_rank
from percentages
inner join {{ ref("dim_sponsor") }} as sponsors
    on percentages.sponsor_key = sponsors.sponsor_key
