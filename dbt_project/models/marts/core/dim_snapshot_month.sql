-- A build replaces the rows of its month. Earlier months are history, which staging does not hold:
-- not even a full refresh touches them.
{{ config(
    unique_key="snapshot_month",
    incremental_strategy="delete+insert",
    on_schema_change="append_new_columns",
    full_refresh=false,
    indexes=[{"columns": ["snapshot_month"], "unique": true}],
) }}

select
    snapshot_month,
    data_date
from {{ ref("int_data_date") }}
