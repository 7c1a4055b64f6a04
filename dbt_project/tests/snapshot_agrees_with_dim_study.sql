{{ config(meta={"dagster": {"ref": {"name": "fct_study_snapshot_monthly"}}}) }}

-- The month of the newest load has exactly the studies of dim_study, as they are there.
with

studies as (
    select * from {{ ref("dim_study") }}
),

snapshot as (
    select fct.*
    from {{ ref("fct_study_snapshot_monthly") }} as fct
    inner join {{ ref("int_data_date") }} as data_date
        on fct.snapshot_month = data_date.snapshot_month
)

select
    studies.nct_id as nct_id_in_dim_study,
    snapshot.nct_id as nct_id_in_snapshot
from studies
full outer join snapshot on studies.nct_id = snapshot.nct_id
where
    (studies.content_hash, studies.sponsor_count, studies.site_count)
    is distinct from (snapshot.content_hash, snapshot.sponsor_count, snapshot.site_count)
