{{ config(materialized="ephemeral") }}

with

characters as (
    select
        position,
        ascii(spelled) - ascii('0') as step
    from
        unnest(string_to_array(
            replace('{{ steps_between_unregulated_studies() }}', chr(10), ''), null
        )) with ordinality as characters (spelled, position)
),

numbers as (
    select
        step,
        sum(step) over (order by position) as number
    from characters
)

-- The greatest step is no end of a number: the next one is added to it.
select 'NCT' || lpad(cast(number as text), 8, '0') as nct_id
from numbers
where step < 43
