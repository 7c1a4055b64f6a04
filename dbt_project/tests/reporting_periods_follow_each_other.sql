{{ config(meta={"dagster": {"ref": {"name": "fct_results_reporting_period"}}}) }}

-- Periods of a study do not overlap, the last one alone is current, and each has a status if it
-- should have one.
with

periods as (
    select
        *,
        lag(valid_to) over (partition by nct_id order by valid_from nulls first) as end_before,
        row_number() over (partition by nct_id order by valid_from nulls first) as number
    from {{ ref("fct_results_reporting_period") }}
)

select
    nct_id,
    valid_from,
    valid_to
from periods
where
    valid_to <= valid_from
    or is_current <> (valid_to is null)
    or (number > 1 and end_before is null)
    or valid_from < end_before
    or (is_deleted and (is_act or is_pact or has_results))
    or (is_act or is_pact or is_no_longer_act) <> (status_until_due is not null)
    or (status_until_due is null) <> (status_once_due is null)
