{{ config(
    unique_key="cause_code",
    indexes=[{"columns": ["cause_code"], "unique": true}],
) }}

with

causes as (
    select
        *,
        cause_code not in (
            select parts.parent_code from {{ ref("ghe_causes") }} as parts
            where parts.in_ghe2021 and parts.parent_code is not null
        ) as is_leaf
    from {{ ref("ghe_causes") }}
),

-- Ranked causes are never parts of each other.
ranked_holders as (
    select
        lines.cause_code,
        lines.holder_code
    from {{ ref("int_ghe_cause_lines") }} as lines
    inner join causes as holders on lines.holder_code = holders.cause_code
    where holders.is_ranked
),

terms as (
    select
        cause_code,
        array_agg(mesh_term order by mesh_term collate "C") filter (where not is_excluded)
            as mesh_terms,
        array_agg(mesh_term order by mesh_term collate "C") filter (where is_excluded)
            as excluded_mesh_terms
    from {{ ref("ghe_cause_terms") }}
    group by cause_code
),

-- Causes of which some trial could be told, by their own terms or those of a part.
told as (
    select distinct lines.holder_code as cause_code
    from {{ ref("int_ghe_cause_lines") }} as lines
    inner join terms as own_terms on lines.cause_code = own_terms.cause_code
),

counts as (
    select
        cause_code,
        count(*) as trials
    from {{ ref("fct_study_ghe_cause") }}
    where is_trial
    group by cause_code
)

select
    causes.cause_code,
    causes.cause_title,
    causes.parent_code,
    causes.cause_level,
    causes.cause_group,
    causes.is_leaf,
    causes.is_ranked,
    coalesce(ranked_holders.holder_code, case when causes.is_leaf then causes.cause_code end)
        as counted_code,
    causes.in_ghe2019,
    causes.in_ghe2021,
    terms.mesh_terms,
    terms.excluded_mesh_terms,
    causes.terms_note,
    causes.no_terms_reason,
    case when told.cause_code is not null then coalesce(counts.trials, 0) end as trials
from causes
left join ranked_holders on causes.cause_code = ranked_holders.cause_code
left join terms on causes.cause_code = terms.cause_code
left join counts on causes.cause_code = counts.cause_code
left join told on causes.cause_code = told.cause_code
