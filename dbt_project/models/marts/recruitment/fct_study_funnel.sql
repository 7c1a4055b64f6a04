{{ config(
    unique_key="study_funnel_key",
    indexes=[{"columns": ["study_funnel_key"], "unique": true}],
) }}

with

studies as (
    select
        cast(extract(year from studies.study_first_submitted_date) as integer) as registration_year,
        cast(extract(year from studies.start_date) as integer) as start_year,
        studies.study_type,
        studies.phase,
        sponsors.agency_class as lead_sponsor_class,
        studies.has_results,
        studies.overall_status,
        coalesce(
            studies.overall_status in (
                'RECRUITING', 'ENROLLING_BY_INVITATION', 'ACTIVE_NOT_RECRUITING', 'SUSPENDED',
                'COMPLETED', 'TERMINATED'
            )
            or (
                studies.overall_status = 'UNKNOWN'
                and studies.last_known_status in (
                    'RECRUITING', 'ENROLLING_BY_INVITATION', 'ACTIVE_NOT_RECRUITING', 'SUSPENDED'
                )
            ), false
        ) as has_started
    from {{ ref("dim_study") }} as studies
    left join {{ ref("dim_sponsor") }} as sponsors
        on studies.lead_sponsor_key = sponsors.sponsor_key
),

counts as (
    select
        registration_year,
        start_year,
        study_type,
        phase,
        lead_sponsor_class,
        count(*) as registered,
        count(*) filter (where has_started) as started,
        count(*) filter (where overall_status = 'NOT_YET_RECRUITING') as not_yet_recruiting,
        count(*) filter (where overall_status in ('RECRUITING', 'ENROLLING_BY_INVITATION'))
            as recruiting,
        count(*) filter (where overall_status = 'ACTIVE_NOT_RECRUITING') as active_not_recruiting,
        count(*) filter (where overall_status = 'SUSPENDED') as suspended,
        count(*) filter (where overall_status = 'COMPLETED') as completed,
        count(*) filter (where overall_status = 'TERMINATED') as terminated,
        count(*) filter (where overall_status = 'WITHDRAWN') as withdrawn,
        count(*) filter (where overall_status = 'UNKNOWN') as unknown,
        count(*) filter (where has_results) as with_results,
        count(*) filter (where has_results and overall_status = 'COMPLETED')
            as completed_with_results,
        count(*) filter (where has_results and overall_status = 'TERMINATED')
            as terminated_with_results
    from studies
    group by registration_year, start_year, study_type, phase, lead_sponsor_class
)

select
    {{ spelling_key([
        "registration_year", "start_year", "study_type", "phase", "lead_sponsor_class"
    ]) }} as study_funnel_key,
    *,
    registered - not_yet_recruiting - recruiting - active_not_recruiting - suspended - completed
    - terminated - withdrawn - unknown as other_status
from counts
