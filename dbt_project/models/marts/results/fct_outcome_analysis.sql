{{ config(
    unique_key="outcome_analysis_id",
    indexes=[
        {"columns": ["outcome_analysis_id"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

with

analyses as (
    select * from {{ of_changed_studies(ref("stg_outcome_analyses")) }}
),

outcomes as (
    select
        id as outcome_id,
        outcome_type
    from {{ of_changed_studies(ref("stg_outcomes")) }}
),

result_groups as (
    select
        id as result_group_id,
        title
    from {{ of_changed_studies(ref("stg_result_groups")) }}
),

analysis_groups as (
    select * from {{ of_changed_studies(ref("stg_outcome_analysis_groups")) }}
),

-- A group that the outcome does not have is known by its code.
compared as (
    select
        analysis_groups.outcome_analysis_id,
        count(*) as group_count,
        array_agg(
            coalesce(result_groups.title, analysis_groups.ctgov_group_code)
            order by analysis_groups.position, analysis_groups.id
        ) as group_titles
    from analysis_groups
    left join result_groups on analysis_groups.result_group_id = result_groups.result_group_id
    group by analysis_groups.outcome_analysis_id
)

select
    analyses.id as outcome_analysis_id,
    analyses.nct_id,

    -- what was compared, and how
    analyses.outcome_id,
    outcomes.outcome_type,
    coalesce(compared.group_count, 0) as group_count,
    compared.group_titles,
    analyses.non_inferiority_type,
    analyses.method,

    -- estimate
    analyses.param_type,
    analyses.param_value,
    analyses.param_value_qualifier,
    analyses.param_value_status,
    case when analyses.param_value_status <> 'number' then analyses.param_value_raw end
        as param_value_text,
    analyses.dispersion_type,
    analyses.dispersion_value,
    analyses.dispersion_value_status,

    -- confidence interval
    analyses.ci_percent,
    analyses.ci_n_sides,
    analyses.ci_lower_limit,
    analyses.ci_upper_limit,
    {{ poorest_number_status([
        "analyses.ci_lower_limit_status", "analyses.ci_upper_limit_status"
    ]) }} as ci_status,
    case
        when analyses.ci_lower_limit_status <> 'number' then analyses.ci_lower_limit_raw
    end as ci_lower_limit_text,
    case
        when analyses.ci_upper_limit_status <> 'number' then analyses.ci_upper_limit_raw
    end as ci_upper_limit_text,
    coalesce(
        analyses.ci_lower_limit > analyses.ci_upper_limit
        or analyses.param_value < analyses.ci_lower_limit
        or analyses.param_value > analyses.ci_upper_limit, false
    ) as is_param_value_outside_ci,

    -- P value
    analyses.p_value,
    analyses.p_value_modifier,
    analyses.p_value_status,
    case when analyses.p_value_status <> 'number' then analyses.p_value_raw end as p_value_text,
    coalesce(analyses.p_value not between 0 and 1, false) as is_p_value_impossible
from analyses
inner join outcomes on analyses.outcome_id = outcomes.outcome_id
left join compared on analyses.id = compared.outcome_analysis_id
