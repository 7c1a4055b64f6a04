{{ config(
    unique_key="outcome_result_id",
    indexes=[
        {"columns": ["outcome_result_id"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

with

measurements as (
    select * from {{ of_changed_studies(ref("stg_outcome_measurements")) }}
),

outcomes as (
    select
        id as outcome_id,
        outcome_type,
        coalesce(denom_units_selected, 'Participants') as denominator_units
    from {{ of_changed_studies(ref("stg_outcomes")) }}
),

result_groups as (
    select
        id as result_group_id,
        title
    from {{ of_changed_studies(ref("stg_result_groups")) }}
),

counts as (
    select * from {{ of_changed_studies(ref("stg_outcome_counts")) }}
),

counts_of_classes as (
    select * from {{ of_changed_studies(ref("stg_outcome_class_counts")) }}
),

-- How many of each group were analyzed, for the outcome as a whole and for classes that say so.
outcome_counts as (
    select
        counts.outcome_id,
        counts.ctgov_group_code,
        min(counts.count) filter (where lower(counts.units) = 'participants') as participants,
        min(counts.count) filter (where lower(counts.units) = lower(outcomes.denominator_units))
            as denominator
    from counts
    inner join outcomes on counts.outcome_id = outcomes.outcome_id
    group by counts.outcome_id, counts.ctgov_group_code
),

class_counts as (
    select
        counts.outcome_class_id,
        counts.ctgov_group_code,
        min(counts.count) filter (where lower(counts.units) = 'participants') as participants,
        min(counts.count) filter (where lower(counts.units) = lower(outcomes.denominator_units))
            as denominator
    from counts_of_classes as counts
    inner join outcomes on counts.outcome_id = outcomes.outcome_id
    group by counts.outcome_class_id, counts.ctgov_group_code
)

select
    measurements.id as outcome_result_id,
    measurements.nct_id,

    -- what was measured, in whom
    measurements.outcome_id,
    measurements.outcome_class_id,
    measurements.outcome_category_id,
    measurements.result_group_id,
    outcomes.outcome_type,
    result_groups.title as group_title,
    coalesce(class_counts.participants, outcome_counts.participants) as participants_analyzed,
    coalesce(class_counts.denominator, outcome_counts.denominator) as denominator,
    outcomes.denominator_units,

    -- value
    measurements.param_type,
    measurements.units,
    measurements.param_value_num,
    measurements.param_value_qualifier,
    measurements.param_value_status,
    case when measurements.param_value_status <> 'number' then measurements.param_value end
        as param_value_text,
    measurements.explanation_of_na,

    -- its spread
    measurements.dispersion_type,
    measurements.dispersion_value_num,
    measurements.dispersion_lower_limit,
    measurements.dispersion_upper_limit,
    {{ poorest_number_status([
        "measurements.dispersion_value_status",
        "measurements.dispersion_lower_limit_status",
        "measurements.dispersion_upper_limit_status",
    ]) }} as dispersion_status
from measurements
inner join outcomes on measurements.outcome_id = outcomes.outcome_id
left join result_groups on measurements.result_group_id = result_groups.result_group_id
left join outcome_counts
    on
        measurements.outcome_id = outcome_counts.outcome_id
        and measurements.ctgov_group_code = outcome_counts.ctgov_group_code
left join class_counts
    on
        measurements.outcome_class_id = class_counts.outcome_class_id
        and measurements.ctgov_group_code = class_counts.ctgov_group_code
