{{ config(materialized="by_study", indexes=[
    {"columns": ["study_site_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["site_key"]},
]) }}

select
    id as study_site_id,
    nct_id,
    {{ site_key() }} as site_key,
    status as site_status,
    position
from {{ ref("stg_facilities") }}
