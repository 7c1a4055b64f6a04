{{ config(
    unique_key="nct_id",
    indexes=[{"columns": ["nct_id"], "unique": true}],
) }}

{#- Our own words for ctrdata's objectives, in lower case, each from the beginning of a word. -#}
{%- set objectives = {
    "E": [
        "efficac", "effective", "benefi[tc]", "surviv", "cur(e|es|ed|ative)\\M", "protecti", "death",
        "mortality"
    ],
    "S": [
        "safe(ty|ly)?\\M", "tolerab", "tolerance\\M", "side.effect", "feasib", "adverse", "toxicit"
    ],
    "PD": [
        "pharmacodynamic", "biomarker", "function", "improve", "reduc(e|es|ed|ing|tion|tions)\\M",
        "levels? of\\M"
    ],
    "PK": [
        "pharmacokinetic", "pk\\M", "bioavailab", "bioequivalen", "half.li(fe|ves)\\M",
        "plasma concentration", "cmax\\M", "auc\\M"
    ],
    "LT": ["long.?term\\M"],
    "FU": ["follow(ed)?.?up"],
    "A": [
        "respon(se|ses|d|ds|ded|der|ders)\\M", "progression", "remission", "scores?\\M",
        "quality of life", "time to\\M"
    ],
    "D": [
        "dos(e|es|age|ing).(finding|ranging|escalat|respon)", "recommended.{0,20} dose",
        "maximum.tolerated.dose", "optimal dose"
    ],
} -%}
{%- set platform_words = [
    "basket", "platform", "umbrella", "multi.?arm", "multi.?stage", "master protocol",
    "sub.?protocol", "sub.?stud(y|ie)"
] -%}
{#- What may stand before a heading in its line. -#}
{%- set before_headings =
    "[\s*#_-]*((key|main|major|general|additional|patient|participant|subject)s?[\s*#_-]*)?" -%}

with

studies as (
    select * from {{ of_changed_studies(ref("dim_study")) }}
),

summaries as (
    select * from {{ of_changed_studies(ref("stg_brief_summaries")) }}
),

details as (
    select * from {{ of_changed_studies(ref("stg_detailed_descriptions")) }}
),

outcome_analyses as (
    select * from {{ of_changed_studies(ref("stg_outcome_analyses")) }}
),

analysis_groups as (
    select * from {{ of_changed_studies(ref("stg_outcome_analysis_groups")) }}
),

outcome_counts as (
    select * from {{ of_changed_studies(ref("stg_outcome_counts")) }}
),

eligibilities as (
    select * from {{ of_changed_studies(ref("stg_eligibilities")) }}
),

arms as (
    select
        nct_id,
        count(group_type) > 0 as are_typed,
        bool_or(group_type = 'EXPERIMENTAL') as any_experimental,
        bool_or(group_type = 'PLACEBO_COMPARATOR') as any_placebo,
        bool_or(group_type = 'SHAM_COMPARATOR') as any_sham,
        bool_or(group_type = 'ACTIVE_COMPARATOR') as any_active,
        bool_or(group_type = 'NO_INTERVENTION') as any_untreated,
        bool_or(group_type = 'OTHER') as any_other
    from {{ of_changed_studies(ref("stg_design_groups")) }}
    group by nct_id
),

test_arms as (
    select
        nct_id,
        greatest(count(*) filter (where not is_similar_to_another), 1) as distinct_arms
    from {{ of_changed_studies(ref("fct_test_arm")) }}
    group by nct_id
),

interventions as (
    select
        nct_id,
        bool_or(coalesce(intervention_type in ('DRUG', 'BIOLOGICAL'), false)) as any_medicine
    from {{ of_changed_studies(ref("stg_interventions")) }}
    group by nct_id
),

sponsors as (
    select
        nct_id,
        min(agency_class) filter (where lead_or_collaborator = 'lead') as lead_class,
        bool_or(agency_class = 'INDUSTRY') as any_industry,
        bool_or(agency_class in ('NIH', 'FED', 'OTHER_GOV', 'NETWORK')) as any_public
    from {{ of_changed_studies(ref("stg_sponsors")) }}
    group by nct_id
),

sites as (
    select
        nct_id,
        count(city) as sites_with_city
    from {{ of_changed_studies(ref("stg_facilities")) }}
    group by nct_id
),

links as (
    select
        nct_id,
        string_agg(concat_ws(' ', description, url), ' ' order by id) as see_also
    from {{ of_changed_studies(ref("stg_links")) }}
    group by nct_id
),

publications as (
    select
        nct_id,
        string_agg(
            regexp_replace(citation, '\mdoi:\s*', 'https://doi.org/', 'gi'), ' ' order by id
        ) as citations,
        bool_or(reference_type = 'RESULT') as any_results
    from {{ of_changed_studies(ref("stg_study_references")) }}
    group by nct_id
),

-- Other numbers of this registry that the record gives.
related as (
    select
        nct_id,
        array_agg(distinct related_id order by related_id) as nct_ids
    from (
        select
            nct_id,
            substring(id_value from 'NCT[0-9]{8}') as related_id
        from {{ of_changed_studies(ref("stg_id_information")) }}
        where id_source <> 'nct_alias' and id_value like '%NCT%'
        union all
        select
            nct_id,
            expanded_access_nctid
        from {{ of_changed_studies(ref("stg_studies")) }}
    ) as named
    where related_id <> nct_id
    group by nct_id
),

planned_outcomes as (
    select
        nct_id,
        array_agg(concat_ws(' == ', measure, description, time_frame) order by id) as descriptions
    from {{ of_changed_studies(ref("stg_design_outcomes")) }}
    where outcome_type = 'primary'
    group by nct_id
),

measured_outcomes as (
    select
        nct_id,
        min(id) filter (where outcome_type = 'PRIMARY') as first_primary_id
    from {{ of_changed_studies(ref("stg_outcomes")) }}
    group by nct_id
),

-- The first analysis of the first primary outcome.
first_analyses as (
    select distinct on (measured_outcomes.nct_id)
        measured_outcomes.nct_id,
        outcome_analyses.id,
        outcome_analyses.outcome_id,
        outcome_analyses.p_value,
        lower(regexp_replace(outcome_analyses.method, '[^[:alnum:]]', '', 'g')) as method
    from measured_outcomes
    inner join outcome_analyses
        on measured_outcomes.first_primary_id = outcome_analyses.outcome_id
    order by measured_outcomes.nct_id asc, outcome_analyses.id asc
),

first_sizes as (
    select
        first_analyses.nct_id,
        sum(outcome_counts.count) as participants
    from first_analyses
    inner join analysis_groups
        on first_analyses.id = analysis_groups.outcome_analysis_id
    inner join outcome_counts
        on
            first_analyses.outcome_id = outcome_counts.outcome_id
            and analysis_groups.ctgov_group_code = outcome_counts.ctgov_group_code
            and outcome_counts.denom_position = 1
    where first_analyses.p_value is not null
    group by first_analyses.nct_id
),

periods as (
    select
        nct_id,
        count(distinct lower(title)) filter (
            where title !~* 'safe|enrol|screen|follow|extens'
        ) as treatment_periods
    from {{ of_changed_studies(ref("stg_flow_periods")) }}
    group by nct_id
),

medicine_trials as (
    select
        studies.nct_id,
        lower(concat_ws(
            ' ',
            summaries.description, details.description, replace(studies.primary_purpose, '_', ' ')
        )) as purpose
    from studies
    inner join interventions on studies.nct_id = interventions.nct_id and interventions.any_medicine
    left join summaries
        on studies.nct_id = summaries.nct_id
    left join details
        on studies.nct_id = details.nct_id
    where studies.study_type = 'INTERVENTIONAL'
),

objectives as (
    select
        nct_id,
        nullif(concat_ws(
            ' ',
            {%- for letters, words in objectives.items() %}
                case when purpose ~ '\m({{ words | join("|") }})' then '{{ letters }}' end
                {{- "," if not loop.last }}
            {%- endfor %}
        ), '') as letters
    from medicine_trials
),

titles as (
    select
        nct_id,
        coalesce(official_title, brief_title) as title
    from studies
),

-- Texts are divided at the first heading of each kind, if they begin with that of inclusion.
headings as (
    select
        nct_id,
        criteria,
        strpos(lower(criteria collate "C"), 'inclusion criteria:') as inclusion_at,
        strpos(lower(criteria collate "C"), 'exclusion criteria:') as exclusion_at
    from eligibilities
),

criteria as (
    select
        nct_id,
        criteria as whole,
        exclusion_at > inclusion_at
        and left(criteria, inclusion_at - 1) ~* '^{{ before_headings }}$' as are_divided,
        substr(left(criteria, exclusion_at - 1), inclusion_at + length('inclusion criteria:'))
            as inclusion,
        substr(criteria, exclusion_at + length('exclusion criteria:')) as exclusion
    from headings
    where inclusion_at > 0
)

select
    studies.nct_id,

    -- design
    case
        when studies.allocation = 'RANDOMIZED' then 'R'
        when studies.allocation is not null then 'NR'
    end as assignment_type,
    case
        when not arms.are_typed then null
        when (arms.any_placebo or arms.any_sham) and arms.any_active then 'placebo+active'
        when arms.any_placebo or arms.any_sham then 'placebo'
        when arms.any_active then 'active'
        when arms.any_other then 'other'
        when arms.any_untreated then 'no-treatment'
        when arms.are_typed then 'none'
    end as control_type,
    case
        when not arms.are_typed then null
        when arms.any_placebo and arms.any_active then 'placebo+active'
        when arms.any_placebo then 'placebo'
        when arms.any_active or arms.any_experimental then 'active'
        when arms.any_other then 'other'
        when arms.any_untreated then 'no-treatment'
        when arms.are_typed then 'none'
    end as control_type_ctrdata,
    test_arms.distinct_arms as num_test_arms_substances,
    case
        when interventions.nct_id is not null
            then
                coalesce(studies.study_type = 'INTERVENTIONAL', false)
                and interventions.any_medicine
    end as is_med_interv_trial,
    true as is_unique_trial,
    case studies.phase
        when 'EARLY_PHASE1' then 'phase 1'
        when 'PHASE1' then 'phase 1'
        when 'PHASE1/PHASE2' then 'phase 1+2'
        when 'PHASE2' then 'phase 2'
        when 'PHASE2/PHASE3' then 'phase 2+3'
        when 'PHASE2/PHASE4' then 'phase 2+4'
        when 'PHASE3' then 'phase 3'
        when 'PHASE3/PHASE4' then 'phase 3+4'
        when 'PHASE1/PHASE2/PHASE3' then 'phase 1+2+3'
        when 'PHASE4' then 'phase 4'
        when 'PHASE1/PHASE2/PHASE3/PHASE4' then 'phase 1+2+3+4'
    end as trial_phase,
    objectives.letters as trial_objectives,

    -- platform trials
    coalesce(titles.title ~* '\m({{ platform_words | join("|") }})s?\M', false)
    or coalesce(test_arms.distinct_arms > 2, false)
    or coalesce(periods.treatment_periods > 2, false) as likely_platform_trial,
    coalesce(related.nct_ids, '{}') as likely_related_trials,
    lower(regexp_replace(
        coalesce(
            substring(titles.title from '\(([^()]{5,})\)'),
            substring(titles.title from '^(.{5,25}?)(?:: | - )')
        ), '[^[:alnum:]]', '', 'g'
    )) as title_reference,

    -- who, how many, where
    case
        when sponsors.any_industry and sponsors.any_public then 'mixed'
        when sponsors.lead_class = 'INDUSTRY' then 'for profit'
        when sponsors.lead_class in ('NIH', 'FED', 'OTHER_GOV', 'NETWORK') then 'not for profit'
        when sponsors.lead_class is not null then 'other'
    end as sponsor_type,
    case
        when sponsors.lead_class = 'INDUSTRY' then 'for profit'
        when sponsors.lead_class in ('NIH', 'FED', 'OTHER_GOV', 'NETWORK') then 'not for profit'
        when sponsors.lead_class is not null then 'other'
    end as sponsor_type_ctrdata,
    nullif(studies.enrollment, 0) as sample_size,
    nullif(sites.sites_with_city, 0) as num_sites,

    -- population
    coalesce(
        nullif(concat_ws(
            '+',
            case when eligibilities.child then 'P' end,
            case when eligibilities.adult then 'A' end,
            case when eligibilities.older_adult then 'E' end
        ), ''),
        case
            when eligibilities.minimum_age_years is null and eligibilities.maximum_age_years is null
                then null
            else
                nullif(concat_ws(
                    '+',
                    case when coalesce(eligibilities.minimum_age_years, 0) < 18 then 'P' end,
                    case
                        when
                            coalesce(eligibilities.minimum_age_years, 0) < 65
                            and coalesce(eligibilities.maximum_age_years, 999) >= 18
                            then 'A'
                    end,
                    case when coalesce(eligibilities.maximum_age_years, 999) >= 65 then 'E' end
                ), '')
        end
    ) as trial_population_age_group,
    case
        when eligibilities.maximum_age_years >= 65 and eligibilities.minimum_age_years < 18
            then 'P+A+E'
        when eligibilities.maximum_age_years >= 18 and eligibilities.minimum_age_years < 18
            then 'P+A'
        when eligibilities.maximum_age_years >= 65 and eligibilities.minimum_age_years >= 18
            then 'A+E'
        when eligibilities.maximum_age_years < 18 then 'P'
        when eligibilities.minimum_age_years >= 18 then 'A'
        else
            nullif(concat_ws(
                '+',
                case when eligibilities.child then 'P' end,
                case when eligibilities.adult then 'A' end,
                case when eligibilities.older_adult then 'E' end
            ), '')
    end as trial_population_age_group_ctrdata,
    case
        when criteria.are_divided
            then
                btrim(
                    regexp_replace(criteria.inclusion, '\n{{ before_headings }}$', '', 'i'),
                    E' \t\r\n'
                )
        else eligibilities.criteria
    end as trial_population_inclusion,
    case
        when criteria.are_divided then btrim(criteria.exclusion, E' \t\r\n')
        else eligibilities.criteria
    end as trial_population_exclusion,

    -- course
    case
        when studies.overall_status is null then null
        when
            studies.overall_status in (
                'RECRUITING', 'ENROLLING_BY_INVITATION', 'AVAILABLE', 'SUSPENDED',
                'TEMPORARILY_NOT_AVAILABLE'
            )
            then 'ongoing'
        when studies.overall_status = 'COMPLETED' then 'completed'
        when studies.overall_status = 'TERMINATED' then 'ended early'
        else 'other'
    end as status_recruitment,
    studies.start_date,

    -- results
    coalesce(studies.has_results, false)
    or studies.results_first_submitted_date is not null
    or measured_outcomes.nct_id is not null
    or coalesce(publications.any_results, false) as has_results,
    studies.results_first_posted_date as results_date,
    coalesce(planned_outcomes.descriptions, '{}') as primary_endpoint_description,
    first_analyses.p_value as primary_endpoint_first_pvalue,
    first_analyses.method as primary_endpoint_first_pmethod,
    first_sizes.participants as primary_endpoint_first_psize,

    -- texts
    titles.title as trial_title,
    nullif(concat_ws(' ', links.see_also, publications.citations), '') as external_links
from studies
left join eligibilities on studies.nct_id = eligibilities.nct_id
left join arms on studies.nct_id = arms.nct_id
left join test_arms on studies.nct_id = test_arms.nct_id
left join interventions on studies.nct_id = interventions.nct_id
left join sponsors on studies.nct_id = sponsors.nct_id
left join sites on studies.nct_id = sites.nct_id
left join links on studies.nct_id = links.nct_id
left join publications on studies.nct_id = publications.nct_id
left join related on studies.nct_id = related.nct_id
left join planned_outcomes on studies.nct_id = planned_outcomes.nct_id
left join measured_outcomes on studies.nct_id = measured_outcomes.nct_id
left join first_analyses on studies.nct_id = first_analyses.nct_id
left join first_sizes on studies.nct_id = first_sizes.nct_id
left join periods on studies.nct_id = periods.nct_id
left join objectives on studies.nct_id = objectives.nct_id
left join titles on studies.nct_id = titles.nct_id
left join criteria on studies.nct_id = criteria.nct_id
