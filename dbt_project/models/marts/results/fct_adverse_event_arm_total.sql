{{ config(
    unique_key="adverse_event_arm_total_id",
    indexes=[
        {"columns": ["adverse_event_arm_total_id"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

with

-- The registry lists each arm once; its position tells arms apart that share a code.
arms as (
    select
        min(id) as adverse_event_arm_total_id,
        nct_id,
        position,
        min(result_group_id) as result_group_id,
        min(ctgov_group_code) as ctgov_group_code,
        min(subjects_affected) filter (where event_type = 'serious') as serious_affected,
        min(subjects_at_risk) filter (where event_type = 'serious') as serious_at_risk,
        min(subjects_affected) filter (where event_type = 'other') as other_affected,
        min(subjects_at_risk) filter (where event_type = 'other') as other_at_risk,
        min(subjects_affected) filter (where event_type = 'deaths') as deaths_affected,
        min(subjects_at_risk) filter (where event_type = 'deaths') as deaths_at_risk
    from {{ of_changed_studies(ref("stg_reported_event_totals")) }}
    group by nct_id, position
),

result_groups as (
    select
        id as result_group_id,
        title,
        design_group_id
    from {{ of_changed_studies(ref("stg_result_groups")) }}
),

reports as (
    select
        nct_id,
        frequency_threshold
    from {{ of_changed_studies(ref("stg_adverse_event_reports")) }}
)

select
    arms.adverse_event_arm_total_id,
    arms.nct_id,
    arms.position,
    arms.result_group_id,
    arms.ctgov_group_code,
    result_groups.title as group_title,
    result_groups.design_group_id,

    arms.serious_affected,
    arms.serious_at_risk,
    cast(arms.serious_affected as double precision)
    / nullif(arms.serious_at_risk, 0) as serious_share,
    arms.other_affected,
    arms.other_at_risk,
    cast(arms.other_affected as double precision) / nullif(arms.other_at_risk, 0) as other_share,
    arms.deaths_affected,
    arms.deaths_at_risk,
    cast(arms.deaths_affected as double precision) / nullif(arms.deaths_at_risk, 0) as deaths_share,

    coalesce(arms.serious_affected > arms.serious_at_risk, false)
    or coalesce(arms.other_affected > arms.other_at_risk, false)
    or coalesce(arms.deaths_affected > arms.deaths_at_risk, false) as is_affected_above_at_risk,
    reports.frequency_threshold
from arms
left join result_groups on arms.result_group_id = result_groups.result_group_id
left join reports on arms.nct_id = reports.nct_id
