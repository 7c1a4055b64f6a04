with

source as (
    select * from {{ source("staging", "load_info") }}
),

renamed as (
    select
        snapshot_id,
        cast(data_timestamp at time zone 'UTC' as date) as data_date
    from source
)

select * from renamed
