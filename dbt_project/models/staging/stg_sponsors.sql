with

source as (
    select * from {{ source("staging", "sponsors") }}
),

renamed as (
    select
        id as study_sponsor_id,
        nct_id,
        position,
        lead_or_collaborator as sponsor_role,
        name as sponsor_name,
        agency_class
    from source
)

select * from renamed
