{{ config(
    unique_key="study_identifier_id",
    indexes=[
        {"columns": ["study_identifier_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["normalised_id"], "type": "spgist"},
        {"columns": ["register"], "type": "spgist"},
    ],
) }}

with

entries as (
    -- The study's own number stands before those that it lists, whose positions begin with 1.
    select
        cast(right(nct_id, -3) as bigint) * 1000000000 as study_identifier_id,
        nct_id,
        0 as position,
        'nct_id' as id_source,
        nct_id as id_value,
        cast(null as text) as id_type,
        cast(null as text) as id_type_description,
        cast(null as text) as id_link
    from {{ of_changed_studies(ref("stg_studies")) }}
    union all
    select
        id as study_identifier_id,
        nct_id,
        position,
        id_source,
        id_value,
        id_type,
        id_type_description,
        id_link
    from {{ of_changed_studies(ref("stg_id_information")) }}
),

-- Some registrants write a part of the identifier, or all of it, where its kind is to be described.
texts as (
    select
        *,
        translate(upper(id_value), '‐‑‒–—−', '------') as id_text,
        translate(upper(concat_ws(' ', id_type_description, id_value)), '‐‑‒–—−', '------')
            as described_text
    from entries
),

-- A pattern begins where no digit or letter is before it, and ends before no digit.
patterns as (
    select
        pattern_order,
        register,
        identifier_kind,
        pattern,
        replacement,
        '((?<![0-9A-Z])(?:' || pattern || ')(?![0-9]))' as whole_pattern
    from {{ ref("identifier_patterns") }}
),

-- Most texts match none of them, which one pattern tells.
any_pattern as (
    select '(?:' || string_agg(pattern, '|' order by pattern_order) || ')' as pattern
    from patterns
),

candidates as (
    select texts.*
    from texts
    cross join any_pattern
    where texts.described_text ~ any_pattern.pattern
),

matches as (
    select distinct on (candidates.study_identifier_id)
        candidates.study_identifier_id,
        patterns.register,
        patterns.identifier_kind,
        case when candidates.id_text ~ patterns.whole_pattern then 'pattern' else 'description' end
            as matched_by,
        regexp_replace(
            substring(
                case
                    when candidates.id_text ~ patterns.whole_pattern then candidates.id_text
                    else candidates.described_text
                end from patterns.whole_pattern
            ), patterns.pattern, patterns.replacement
        ) as matched_id
    from candidates
    inner join patterns on candidates.described_text ~ patterns.whole_pattern
    order by
        candidates.study_identifier_id asc,
        (candidates.id_text ~ patterns.whole_pattern) desc nulls last,
        patterns.pattern_order asc
),

-- What the registry's own type says.
typed as (
    select
        study_identifier_id,
        case id_type
            when 'EUDRACT_NUMBER' then 'EudraCT'
            when 'CTIS' then 'CTIS'
            when 'NIH' then 'NIH grant'
            when 'FDA' then 'FDA grant'
            when 'VA' then 'VA grant'
            when 'CDC' then 'CDC grant'
            when 'AHRQ' then 'AHRQ grant'
            when 'SAMHSA' then 'SAMHSA grant'
        end as register,
        case
            when id_source = 'org_study_id' and id_type is null then 'sponsor'
            when id_type in ('EUDRACT_NUMBER', 'CTIS') then 'trial register'
            when id_type in ('NIH', 'FDA', 'VA', 'CDC', 'AHRQ', 'SAMHSA', 'OTHER_GRANT')
                then 'grant'
            when id_type = 'REGISTRY' then 'other register'
            else 'other'
        end as identifier_kind,
        coalesce(id_link like '%//reporter.nih.gov/%', false) as has_nih_link
    from entries
)

select
    texts.study_identifier_id,
    texts.nct_id,
    texts.position,
    texts.id_source,
    texts.id_value,
    texts.id_type,
    texts.id_type_description,
    texts.id_link,
    coalesce(
        matches.register, typed.register, case when typed.has_nih_link then 'NIH grant' end
    ) as register,
    coalesce(matches.identifier_kind, typed.identifier_kind) as identifier_kind,
    nullif(concat_ws(
        ', ',
        case
            when
                typed.register = coalesce(matches.register, typed.register)
                or (typed.register = 'NIH grant' and matches.register = 'NIH contract')
                then 'type'
        end,
        matches.matched_by,
        case
            when typed.has_nih_link and coalesce(matches.register, 'NIH grant') like 'NIH%'
                then 'link'
        end
    ), '') as matched_by,
    -- Of all registers this one alone writes small letters where a person may choose.
    case
        when matches.register = 'ReBEC' then 'RBR-' || lower(right(matches.matched_id, -4))
        else matches.matched_id
    end as normalised_id
from texts
inner join typed on texts.study_identifier_id = typed.study_identifier_id
left join matches on texts.study_identifier_id = matches.study_identifier_id
