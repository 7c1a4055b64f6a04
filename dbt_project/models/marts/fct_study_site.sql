{{ config(indexes=[
    {"columns": ["study_site_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["site_key"]},
]) }}

-- Built after the spellings, which take off what the studies that changed had here before:
-- depends_on: {{ ref("int_site_spellings") }}
select
    id as study_site_id,
    nct_id,
    {{ site_key() }} as site_key,
    {{ site_spelling_key() }} as spelling_key,
    status as site_status,
    position
from {{ ref("stg_facilities") }}
