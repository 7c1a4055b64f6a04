{{ config(materialized="ephemeral") }}

-- Interventional studies that have begun by the day of the data, with the years from their start to
-- their primary completion. A start that has passed while the study does not recruit yet has not
-- happened, and of one that was withdrawn nobody took part.
select
    studies.nct_id,
    studies.lead_sponsor_key,
    cast(extract(year from studies.start_date) as integer) as start_year,
    cast(
        extract(
            year from greatest(
                studies.start_date,
                least(
                    coalesce(
                        studies.primary_completion_date, studies.completion_date, data.data_date
                    ),
                    data.data_date
                )
            )
        ) as integer
    ) as last_year
from {{ ref("dim_study") }} as studies
cross join {{ ref("int_data_date") }} as data
where
    studies.study_type = 'INTERVENTIONAL'
    and studies.start_date <= data.data_date
    and {{ is_within_calendar("studies.start_date") }}
    and studies.overall_status not in ('WITHDRAWN', 'NOT_YET_RECRUITING')
