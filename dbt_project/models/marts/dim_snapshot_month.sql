{{ config(
    materialized="by_month",
    indexes=[{"columns": ["snapshot_month"], "unique": true}],
) }}

select
    snapshot_month,
    data_date
from {{ ref("int_data_date") }}
