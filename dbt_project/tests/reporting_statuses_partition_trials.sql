{{ config(meta={"dagster": {"ref": {"name": "fct_results_reporting"}}}) }}

-- Each applicable or probable trial, each study that was one, and no other study has one status,
-- which goes with what is said beside it.
select
    nct_id,
    is_act,
    is_pact,
    status
from {{ ref("fct_results_reporting") }}
where
    (is_act and is_pact)
    or ((is_act or is_pact) and is_no_longer_act)
    or (is_act or is_pact or is_no_longer_act) <> (status is not null)
    or is_no_longer_act <> (coalesce(status, '') = 'no-longer-act')
    or (status in ('overdue', 'overdue-cancelled') and (has_results or not results_due))
    or (status in ('reported', 'reported-late') and not (has_results or is_in_quality_control))
    or (status = 'ongoing' and has_results)
    or (has_results and have_results_vanished)
    or (status = 'overdue-cancelled') <> (is_submission_cancelled and days_late is not null)
    or (status in ('reported-late', 'overdue', 'overdue-cancelled')) <> (days_late is not null)
    or days_late_minimum > days_late
    or (days_late_minimum is not null and days_late is null)
