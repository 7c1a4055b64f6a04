with

source as (
    select * from {{ source("staging", "facilities") }}
),

renamed as (
    select
        id as study_site_id,
        nct_id,
        position,
        status as site_status,
        name as facility_name,
        city,
        state,
        zip,
        country,
        latitude,
        longitude
    from source
)

select * from renamed
