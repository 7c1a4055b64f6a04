with

source as (
    select * from {{ source("staging", "browse_interventions") }}
),

renamed as (
    select
        mesh_id,
        mesh_term
    from source
)

select * from renamed
