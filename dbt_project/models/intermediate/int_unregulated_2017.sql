{{ config(materialized="ephemeral") }}

select thousands.nct_id_start || ends.nct_id_end as nct_id
from {{ ref("unregulated_2017") }} as thousands
cross join
    lateral unnest(string_to_array(thousands.nct_id_ends, ' ')) as ends (nct_id_end)
