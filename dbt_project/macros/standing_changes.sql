{% macro standing_changes(versions, changes) -%}
    select distinct on (change.nct_id, change.observed_at)
        change.nct_id,
        change.change_seq,
        change.observed_at,
        change.is_silent,
        version.previous_version_number as old_version_number,
        version.version_number as new_version_number,
        version.previous_last_observed_at,
        case
            when
                version.last_update_post_date > version.previous_last_update_post_date
                and version.last_update_post_date
                <= cast(change.observed_at at time zone 'UTC' as date)
                then version.last_update_post_date
            else cast(change.observed_at at time zone 'UTC' as date)
        end as change_date
    from {{ changes }} as change
    inner join (
        select
            *,
            lag(content_hash) over in_time as previous_content_hash,
            lag(version_number) over in_time as previous_version_number,
            lag(last_observed_at) over in_time as previous_last_observed_at,
            lag(last_update_post_date) over in_time as previous_last_update_post_date
        from {{ versions }}
        window in_time as (partition by nct_id order by valid_from)
    ) as version
        on change.nct_id = version.nct_id and change.observed_at = version.valid_from
    where
        case
            when change.new_content_hash = version.content_hash
                then change.old_content_hash = version.previous_content_hash
        end
    order by change.nct_id, change.observed_at, change.change_seq desc
{%- endmacro %}
