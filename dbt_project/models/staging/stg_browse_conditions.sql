with

source as (
    select * from {{ source("staging", "browse_conditions") }}
),

renamed as (
    select
        mesh_id,
        mesh_term
    from source
)

select * from renamed
