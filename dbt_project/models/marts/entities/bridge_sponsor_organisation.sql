{{ config(
    unique_key="sponsor_key",
    indexes=[
        {"columns": ["sponsor_key"], "unique": true},
        {"columns": ["organisation_key"]},
    ],
) }}

with

spelled as (
    select coalesce(sponsor_name, '') as name
    from {{ ref("dim_sponsor") }}
    union distinct
    select sponsor_name as name
    from {{ ref("organisation_names") }}
    union distinct
    select organisation_name as name
    from {{ ref("organisation_names") }}
),

folded_names as (
    select
        name,
        {{ folded("name") }} as folded_name
    from spelled
),

-- Without article and legal forms; a name that is nothing else keeps them.
normalised_names as (
    select
        name,
        coalesce(
            nullif(
                regexp_replace(
                    regexp_replace(folded_name, '^the ', ''),
                    '( (and )?(a s|ab|ag|aps|as|asa|bv|bvba|co|company|corp|corporation|cv'
                    || '|dac|dd|de cv|doo|ehf|ev|gmbh|hf|inc|incorporated|jsc|kft|kg|kgaa|kk'
                    || '|lda|limited|llc|llp|lp|ltd|ltda|mbh|nv|ojsc|ooo|ou|oy|oyj|pc|plc'
                    || '|pllc|private|pte|pty|pvt|s a|s r l|sa|sarl|sas|sasu|sau|sdn bhd|se'
                    || '|sl|slu|sp z oo|spa|sprl|srl|sro|uc|ulc|zrt))+$',
                    ''
                ), ''
            ),
            nullif(folded_name, ''),
            lower(btrim(name))
        ) as normalised_name
    from folded_names
),

-- What was reviewed, by normalised name: another name of an organisation, or who owns it.
all_reviewed as (
    select
        own_names.normalised_name,
        reviewed_names.sponsor_name,
        organisations.normalised_name as organisation,
        reviewed_names.organisation_name,
        reviewed_names.relation,
        reviewed_names.relation in ('former name', 'other name') as is_same,
        reviewed_names.note
    from {{ ref("organisation_names") }} as reviewed_names
    inner join normalised_names as own_names on reviewed_names.sponsor_name = own_names.name
    inner join normalised_names as organisations
        on reviewed_names.organisation_name = organisations.name
    where own_names.normalised_name <> organisations.normalised_name
),

reviewed as (
    select distinct on (normalised_name) *
    from all_reviewed
    order by normalised_name asc, sponsor_name collate "C" asc
),

sponsors as (
    select
        sponsors.sponsor_key,
        sponsors.sponsor_name,
        normalised_names.normalised_name,
        coalesce(renamed.organisation, normalised_names.normalised_name) as organisation,
        renamed.organisation_name,
        renamed.relation,
        renamed.note
    from {{ ref("dim_sponsor") }} as sponsors
    inner join normalised_names on coalesce(sponsors.sponsor_name, '') = normalised_names.name
    left join reviewed as renamed
        on normalised_names.normalised_name = renamed.normalised_name and renamed.is_same
)

select
    sponsors.sponsor_key,
    sponsors.sponsor_name,
    sponsors.normalised_name,
    {{ surrogate_key(["sponsors.organisation"]) }} as organisation_key,
    coalesce(sponsors.organisation_name, owned.sponsor_name) as reviewed_name,
    coalesce(sponsors.relation, 'normalised name') as matched_by,
    case
        when owned.organisation is not null then {{ surrogate_key(["owned.organisation"]) }}
    end as parent_organisation_key,
    owned.organisation_name as parent_organisation_name,
    owned.relation as parent_relation,
    nullif(concat_ws(' ', sponsors.note, owned.note), '') as note
from sponsors
left join reviewed as owned
    on sponsors.organisation = owned.normalised_name and not owned.is_same
