{{ config(
    unique_key="study_site_id",
    indexes=[
        {"columns": ["study_site_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["site_key"]},
    ],
) }}

select
    id as study_site_id,
    nct_id,
    {{ surrogate_key(["name", "city", "state", "zip", "country"]) }} as site_key,
    {{ spelling_key(["name", "city", "state", "zip", "country", "latitude", "longitude"]) }}
        as spelling_key,
    status as site_status,
    position
from {{ of_changed_studies(ref("stg_facilities")) }}
