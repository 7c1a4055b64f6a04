with

source as (
    select * from {{ source("staging", "conditions") }}
),

renamed as (
    select
        id as study_condition_id,
        nct_id,
        position,
        name as condition_name
    from source
)

select * from renamed
