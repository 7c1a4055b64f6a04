{{ config(
    unique_key="reporting_period_key",
    indexes=[
        {"columns": ["reporting_period_key"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

-- The day on which 42 CFR part 11 came into force.
{% set rule_effective_date = "make_date(2017, 1, 18)" -%}
{% set stated = [
    "study_type", "overall_status", "phase", "is_fda_regulated_drug", "is_fda_regulated_device",
    "start_date", "primary_completion_date", "primary_completion_date_precision",
    "primary_completion_date_type", "completion_date", "completion_date_precision",
    "verification_date", "disposition_first_submitted_date", "results_first_submitted_date",
    "results_waived",
] -%}
-- Of these a new period begins when one is another.
{% set facts = [
    "is_act", "is_pact", "is_highly_likely", "was_unregulated_2017", "has_us_site",
    "completion_date", "completion_date_kind", "is_completion_date_filled_up",
    "imputed_completion_date", "results_due_from", "due_date", "regulation_due_date",
    "are_results_waived", "has_certificate", "certificate_date", "has_results",
    "results_first_submitted_date", "submission_rounds", "cancelled_rounds",
    "first_submitted_date", "standing_submitted_date", "is_submission_standing",
    "inconsistent_dates_from",
] -%}

with

versions as (
    select
        nct_id,
        content_hash,
        valid_from,
        valid_to
    from {{ of_changed_studies(ref("stg_study_versions")) }}
),

current_studies as (
    select * from {{ of_changed_studies(ref("stg_studies")) }}
),

designs as (
    select * from {{ of_changed_studies(ref("stg_designs")) }}
),

former as (
    select * from {{ of_changed_studies(ref("stg_study_version_reporting")) }}
),

-- What every content says, whether it is current (number 0) or not.
contents as (
    select
        studies.nct_id,
        0 as former_id,
        studies.content_hash,
        {% for column in stated -%}
            studies.{{ column }},
        {% endfor -%}
        designs.primary_purpose
    from current_studies as studies
    left join designs on studies.nct_id = designs.nct_id
    union all
    select
        nct_id,
        id as former_id,
        content_hash,
        {% for column in stated -%}
            {{ column }},
        {% endfor -%}
        primary_purpose
    from former
),

countries as (
    select
        nct_id,
        0 as former_id,
        name,
        removed
    from {{ of_changed_studies(ref("stg_countries")) }}
    union all
    select
        former.nct_id,
        former.id as former_id,
        items.name,
        items.removed
    from former
    cross join
        lateral json_to_recordset(former.countries) as items (name text, removed boolean)
),

interventions as (
    select
        nct_id,
        0 as former_id,
        intervention_type
    from {{ of_changed_studies(ref("stg_interventions")) }}
    union all
    select
        former.nct_id,
        former.id as former_id,
        items.intervention_type
    from former
    cross join
        lateral json_to_recordset(former.interventions) as items (intervention_type text)
),

all_submissions as (
    select
        nct_id,
        0 as former_id,
        position,
        release_date,
        unrelease_date,
        unrelease_date_as_sent,
        unrelease_date_unknown
    from {{ of_changed_studies(ref("stg_submissions")) }}
    union all
    select
        former.nct_id,
        former.id as former_id,
        items.position,
        items.release_date,
        items.unrelease_date,
        items.unrelease_date_as_sent,
        items.unrelease_date_unknown
    from former
    cross join
        lateral json_to_recordset(former.submissions) as items (
            position integer, release_date date, unrelease_date date, unrelease_date_as_sent text,
            unrelease_date_unknown boolean
        )
),

us_sites as (
    select distinct
        nct_id,
        former_id
    from countries
    where
        not removed
        -- The territories of the rule; the registry has called the Virgin Islands by both names.
        and name in (
            'United States', 'American Samoa', 'Guam', 'Northern Mariana Islands', 'Puerto Rico',
            'Virgin Islands (U.S.)', 'U.S. Virgin Islands'
        )
),

-- Those of a kind that the FDA regulates, if it regulates them.
regulated_interventions as (
    select distinct
        nct_id,
        former_id
    from interventions
    where
        intervention_type in (
            'DRUG', 'DEVICE', 'BIOLOGICAL', 'GENETIC', 'RADIATION', 'COMBINATION_PRODUCT',
            'DIAGNOSTIC_TEST'
        )
),

rounds as (
    select
        nct_id,
        former_id,
        position,
        release_date as submitted_date,
        unrelease_date is not null
        or unrelease_date_as_sent is not null
        or coalesce(unrelease_date_unknown, false) as is_cancelled
    from all_submissions
),

last_cancellations as (
    select
        nct_id,
        former_id,
        max(position) as position
    from rounds
    where is_cancelled
    group by nct_id, former_id
),

-- Rounds of quality control: all of them, and those that no cancellation follows.
submissions as (
    select
        rounds.nct_id,
        rounds.former_id,
        count(rounds.position) as rounds,
        count(*) filter (where rounds.is_cancelled) as cancelled_rounds,
        min(rounds.submitted_date) as first_submitted_date,
        min(rounds.submitted_date) filter (
            where rounds.position > coalesce(last_cancellations.position, 0)
        ) as standing_submitted_date,
        bool_or(rounds.position > coalesce(last_cancellations.position, 0)) as is_standing
    from rounds
    left join last_cancellations
        on
            rounds.nct_id = last_cancellations.nct_id
            and rounds.former_id = last_cancellations.former_id
    group by rounds.nct_id, rounds.former_id
),

studies as (
    select
        contents.nct_id,
        contents.content_hash,
        contents.overall_status,
        contents.start_date,
        coalesce(contents.study_type = 'INTERVENTIONAL', false) as is_interventional,
        coalesce(contents.phase, '') as phase,
        coalesce(contents.primary_purpose, '') <> 'DEVICE_FEASIBILITY' as is_no_feasibility_study,
        coalesce(contents.is_fda_regulated_drug or contents.is_fda_regulated_device, false)
            as is_regulated,
        contents.is_fda_regulated_drug is null and contents.is_fda_regulated_device is null
            as is_regulation_unknown,
        unregulated.nct_id is not null as was_unregulated_2017,
        regulated_interventions.nct_id is not null as has_regulated_intervention,
        us_sites.nct_id is not null as has_us_site,
        contents.primary_completion_date,
        contents.primary_completion_date_type,
        contents.completion_date as last_completion_date,
        coalesce(contents.primary_completion_date, contents.completion_date) as completion_date,
        case
            when contents.primary_completion_date is not null then 'primary completion'
            when contents.completion_date is not null then 'completion'
        end as completion_date_kind,
        coalesce(
            case
                when contents.primary_completion_date is not null
                    then contents.primary_completion_date_precision <> 'day'
                else contents.completion_date_precision <> 'day'
            end, false
        ) as is_completion_date_filled_up,
        coalesce(
            contents.primary_completion_date, contents.completion_date, contents.verification_date
        ) as imputed_completion_date,
        contents.disposition_first_submitted_date as certificate_date,
        contents.disposition_first_submitted_date is not null as has_certificate,
        contents.results_first_submitted_date,
        contents.results_first_submitted_date is not null as has_results,
        coalesce(contents.results_waived, false) as are_results_waived,
        coalesce(submissions.rounds, 0) as submission_rounds,
        coalesce(submissions.cancelled_rounds, 0) as cancelled_rounds,
        submissions.first_submitted_date,
        submissions.standing_submitted_date,
        coalesce(submissions.is_standing, false) as is_submission_standing
    from contents
    left join {{ ref("int_unregulated_2017") }} as unregulated
        on contents.nct_id = unregulated.nct_id
    left join regulated_interventions
        on
            contents.nct_id = regulated_interventions.nct_id
            and contents.former_id = regulated_interventions.former_id
    left join us_sites
        on contents.nct_id = us_sites.nct_id and contents.former_id = us_sites.former_id
    left join submissions
        on contents.nct_id = submissions.nct_id and contents.former_id = submissions.former_id
),

-- Who has to report.
of_a_kind as (
    select
        *,
        is_interventional
        and phase in ('PHASE1/PHASE2', 'PHASE2', 'PHASE2/PHASE3', 'PHASE3', 'PHASE4', 'NA')
        and is_no_feasibility_study
        and coalesce(overall_status, '') <> 'WITHDRAWN' as is_of_kind
    from studies
),

populations as (
    select
        *,
        coalesce(
            is_of_kind and is_regulated and start_date >= {{ rule_effective_date }}, false
        ) as is_act,
        coalesce(
            is_of_kind
            and start_date < {{ rule_effective_date }}
            and completion_date >= {{ rule_effective_date }}
            and (
                is_regulated
                or (
                    is_regulation_unknown
                    and not was_unregulated_2017
                    and has_regulated_intervention
                    and has_us_site
                )
            ), false
        ) as is_pact,
        coalesce(
            is_interventional
            and overall_status in ('COMPLETED', 'TERMINATED')
            and phase not in ('EARLY_PHASE1', 'PHASE1')
            and imputed_completion_date is not null
            and has_us_site, false
        ) as is_highly_likely
    from of_a_kind
),

-- When results are due.
deadlines as (
    select
        *,
        case
            when is_act or is_pact
                then cast(
                    greatest(
                        completion_date + interval '1 year 30 days',
                        case
                            when has_certificate
                                then completion_date + interval '3 years 30 days'
                        end
                    ) as date
                ) + 1
        end as results_due_from,
        cast(
            case
                when not (is_act or is_pact) then null
                when has_certificate then completion_date + interval '3 years'
                else completion_date + interval '365 days'
            end as date
        ) as due_date,
        cast(
            case
                when are_results_waived or not (is_act or is_pact or is_highly_likely) then null
                when
                    coalesce(primary_completion_date_type, '') <> 'ACTUAL'
                    or primary_completion_date < {{ rule_effective_date }}
                    then null
                when certificate_date < primary_completion_date + interval '1 year'
                    then greatest(
                        primary_completion_date + interval '1 year',
                        certificate_date + interval '2 years'
                    )
                else primary_completion_date + interval '1 year'
            end as date
        ) as regulation_due_date,
        case
            when
                last_completion_date is not null
                and overall_status in (
                    'UNKNOWN', 'ACTIVE_NOT_RECRUITING', 'NOT_YET_RECRUITING',
                    'ENROLLING_BY_INVITATION', 'SUSPENDED', 'RECRUITING'
                )
                then greatest(primary_completion_date, last_completion_date) + 1
        end as inconsistent_dates_from
    from populations
),

-- A study that the history does not know yet has what it says, since nobody knows when.
observed as (
    select * from versions
    union all
    select
        studies.nct_id,
        studies.content_hash,
        null as valid_from,
        null as valid_to
    from current_studies as studies
    left join versions on studies.nct_id = versions.nct_id and versions.valid_to is null
    where versions.nct_id is null
),

absences as (
    select
        nct_id,
        valid_to as valid_from,
        lead(valid_from) over (partition by nct_id order by valid_from nulls first) as valid_to
    from observed
),

-- What could not be typed has no row: nobody knows what holds then.
stretches as (
    select
        observed.nct_id,
        observed.valid_from,
        observed.valid_to,
        false as is_deleted,
    {% for fact in facts -%}
        deadlines.{{ fact }}{{ "," if not loop.last }}
    {% endfor %}
    from observed
    inner join deadlines
        on observed.nct_id = deadlines.nct_id and observed.content_hash = deadlines.content_hash
    union all
    select
        absences.nct_id,
        absences.valid_from,
        absences.valid_to,
        true as is_deleted,
    {% for fact in facts -%}
        nothing.{{ fact }}{{ "," if not loop.last }}
    {% endfor %}
    from absences
    left join deadlines as nothing on false
    where
        absences.valid_from is not null
        and (absences.valid_to is null or absences.valid_to > absences.valid_from)
),

-- What a content means after those before it: a population that was left, results that were there,
-- and rounds of quality control, which leave the record when results are posted.
with_past as (
    select
        *,
        coalesce(
            bool_or(is_act or is_pact) over (
                partition by nct_id order by valid_from nulls first
                rows between unbounded preceding and 1 preceding
            ), false
        ) as was_in_population,
        coalesce(
            bool_or(has_results) over (
                partition by nct_id order by valid_from nulls first
                rows between unbounded preceding and 1 preceding
            ), false
        ) as had_results,
        count(*) filter (where submission_rounds > 0) over (
            partition by nct_id order by valid_from nulls first
        ) as rounds_seen
    from stretches
),

-- The stretch in which rounds were seen last.
last_seen as (
    select
        nct_id,
        rounds_seen,
        submission_rounds as past_rounds,
        cancelled_rounds as past_cancelled,
        first_submitted_date as past_first_date,
        standing_submitted_date as past_standing_date
    from with_past
    where submission_rounds > 0
),

with_rounds as (
    select
        with_past.*,
        last_seen.past_rounds,
        last_seen.past_cancelled,
        last_seen.past_first_date,
        last_seen.past_standing_date,
        with_past.has_results
        and with_past.submission_rounds = 0
        and last_seen.nct_id is not null as are_rounds_past
    from with_past
    left join last_seen
        on
            with_past.nct_id = last_seen.nct_id
            and with_past.rounds_seen = last_seen.rounds_seen
),

states as (
    select
        nct_id,
        valid_from,
        valid_to,
        is_deleted,

        coalesce(is_act, false) as is_act,
        coalesce(is_pact, false) as is_pact,
        coalesce(is_highly_likely, false) as is_highly_likely,
        was_in_population and not coalesce(is_act or is_pact, false) as is_no_longer_act,
        coalesce(was_unregulated_2017, false) as was_unregulated_2017,
        coalesce(has_us_site, false) as has_us_site,

        completion_date,
        completion_date_kind,
        coalesce(is_completion_date_filled_up, false) as is_completion_date_filled_up,
        imputed_completion_date,
        results_due_from,
        due_date,
        regulation_due_date,
        coalesce(are_results_waived, false) as are_results_waived,

        coalesce(has_certificate, false) as has_certificate,
        certificate_date,
        coalesce(certificate_date > completion_date + interval '1 year', false)
            as has_late_certificate,

        coalesce(has_results, false) as has_results,
        had_results and not coalesce(has_results, false) as have_results_vanished,
        results_first_submitted_date,
        coalesce(not has_results and is_submission_standing, false) as is_in_quality_control,
        coalesce(not has_results and submission_rounds > 0 and not is_submission_standing, false)
            as is_submission_cancelled,
        coalesce(case when are_rounds_past then past_rounds else submission_rounds end, 0)
            as submission_rounds,
        coalesce(case when are_rounds_past then past_cancelled else cancelled_rounds end, 0)
            as cancelled_rounds,
        case when are_rounds_past then past_first_date else first_submitted_date end
            as first_submitted_date,
        case when are_rounds_past then past_standing_date else standing_submitted_date end
            as standing_submitted_date,
        inconsistent_dates_from
    from with_rounds
),

with_statuses as (
    select
        *,
        case
            when is_no_longer_act then 'no-longer-act'
            when not (is_act or is_pact) then null
            when has_results then 'reported'
            else 'ongoing'
        end as status_until_due,
        case
            when is_no_longer_act then 'no-longer-act'
            when not (is_act or is_pact) then null
            when has_results and results_first_submitted_date > due_date then 'reported-late'
            when has_results then 'reported'
            when is_in_quality_control and standing_submitted_date > due_date then 'reported-late'
            when is_in_quality_control then 'reported'
            when is_submission_cancelled then 'overdue-cancelled'
            else 'overdue'
        end as status_once_due
    from states
),

-- Stretches that are the same in all of this are one period.
spelled as (
    select
        *,
        cast(
            row(
                {% for fact in facts if fact != "is_submission_standing" -%}
                    {{ fact }},
                {% endfor -%}
                is_deleted, is_no_longer_act, have_results_vanished, is_in_quality_control,
                is_submission_cancelled
            ) as text
        ) as state
    from with_statuses
),

compared as (
    select
        *,
        lag(state) over (partition by nct_id order by valid_from nulls first) as state_before,
        lag(valid_to) over (partition by nct_id order by valid_from nulls first) as end_before
    from spelled
),

numbered as (
    select
        *,
        count(*) filter (
            where state is distinct from state_before or valid_from is distinct from end_before
        ) over (partition by nct_id order by valid_from nulls first) as period_number
    from compared
),

ended as (
    select distinct on (nct_id, period_number)
        *,
        last_value(valid_to) over (
            partition by nct_id, period_number order by valid_from nulls first
            rows between unbounded preceding and unbounded following
        ) as ends,
        count(*) over (partition by nct_id, period_number) as versions
    from numbered
    order by nct_id asc, period_number asc, valid_from asc nulls first
)

select
    {{ surrogate_key(["nct_id", "cast(extract(epoch from valid_from) as text)"]) }}
        as reporting_period_key,
    nct_id,
    valid_from,
    ends as valid_to,
    ends is null as is_current,
    is_deleted,
    versions,

    -- who has to report
    is_act,
    is_pact,
    is_highly_likely,
    is_no_longer_act,
    was_unregulated_2017,
    has_us_site,

    -- when
    completion_date,
    completion_date_kind,
    is_completion_date_filled_up,
    imputed_completion_date,
    results_due_from,
    due_date,
    due_date - lag(due_date) over (partition by nct_id order by period_number)
        as days_due_date_moved,
    regulation_due_date,
    are_results_waived,

    -- certificate of delay
    has_certificate,
    certificate_date,
    has_late_certificate,

    -- results, and their quality control
    has_results,
    have_results_vanished,
    results_first_submitted_date,
    is_in_quality_control,
    is_submission_cancelled,
    submission_rounds,
    cancelled_rounds,
    first_submitted_date,
    standing_submitted_date,

    -- what follows
    status_until_due,
    status_once_due,
    inconsistent_dates_from
from ended
