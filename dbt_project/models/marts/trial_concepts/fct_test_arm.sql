{{ config(
    unique_key="design_group_id",
    indexes=[
        {"columns": ["design_group_id"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

-- Two labels are similar if the edits between them are at most a fifth of the longer one. What both
-- begin and end with needs no edits, and is taken off first: that leaves little to compare.
with recursive

experimental_arms as (
    select
        id as design_group_id,
        nct_id,
        title as label,
        -- The registry allows no longer one.
        left(lower(title), 100) as compared,
        row_number() over (partition by nct_id order by position) as number
    from {{ of_changed_studies(ref("stg_design_groups")) }}
    where group_type = 'EXPERIMENTAL'
),

pairs as (
    select
        one.design_group_id as one_id,
        other.design_group_id as other_id,
        one.compared as one_label,
        other.compared as other_label,
        greatest(length(one.compared), length(other.compared)) / 5 as allowed_edits
    from experimental_arms as one
    inner join experimental_arms as other
        on one.nct_id = other.nct_id and one.number < other.number
    where
        -- Pairs are many where arms are: beyond the hundredth, arms are compared with nothing.
        other.number <= 100
        and abs(length(one.compared) - length(other.compared))
        <= greatest(length(one.compared), length(other.compared)) / 5
),

-- From here on labels are written backwards.
without_beginnings as (
    select
        pairs.one_id,
        pairs.other_id,
        pairs.allowed_edits,
        reverse(substr(pairs.one_label, differences.first)) as one_rest,
        reverse(substr(pairs.other_label, differences.first)) as other_rest
    from pairs
    cross join lateral (
        select coalesce(min(letters.place), 101)::integer as first
        from
            unnest(
                string_to_array(pairs.one_label, null), string_to_array(pairs.other_label, null)
            ) with ordinality as letters (one, other, place)
        where letters.one is distinct from letters.other
    ) as differences
),

differing as materialized (
    select
        rests.one_id,
        rests.other_id,
        rests.allowed_edits,
        string_to_array(substr(rests.one_rest, differences.first), null) as one_letters,
        string_to_array(substr(rests.other_rest, differences.first), null) as other_letters
    from without_beginnings as rests
    cross join lateral (
        select coalesce(min(letters.place), 101)::integer as first
        from
            unnest(
                string_to_array(rests.one_rest, null), string_to_array(rests.other_rest, null)
            ) with ordinality as letters (one, other, place)
        where letters.one is distinct from letters.other
    ) as differences
),

-- Levenshtein's table, row by row: edits from the first letters of one to each beginning of the
-- other. Beginnings whose length differs by more than the edits allowed are left out; an array has
-- NULL there, which least() passes over.
edits as (
    select
        one_id,
        other_id,
        allowed_edits,
        one_letters,
        other_letters,
        0 as letters_done,
        0 as first_length,
        array(
            select generate_series(0, least(allowed_edits, cardinality(other_letters)))
        ) as edits_so_far
    from differing
    -- No more edits are needed than the longer rest has letters.
    where greatest(cardinality(one_letters), cardinality(other_letters)) > allowed_edits
    union all
    select
        edits.one_id,
        edits.other_id,
        edits.allowed_edits,
        edits.one_letters,
        edits.other_letters,
        edits.letters_done + 1 as letters_done,
        greatest(0, edits.letters_done + 1 - edits.allowed_edits) as first_length,
        next_row.edits_so_far
    from edits
    cross join
        lateral (
            select
                array_agg(reached.edits order by reached.length) as edits_so_far,
                -- What is left of one label and not of the other has to be added or taken away.
                min(
                    reached.edits + abs(
                        (cardinality(edits.other_letters) - reached.length)
                        - (cardinality(edits.one_letters) - edits.letters_done - 1)
                    )
                ) as fewest
            from (
                select
                    length,
                    -- Adding a letter costs one more than the length before.
                    length + min(
                        least(
                            edits.edits_so_far[length - edits.first_length + 1] + 1,
                            edits.edits_so_far[length - edits.first_length]
                            + case
                                when
                                    edits.one_letters[edits.letters_done + 1]
                                    = edits.other_letters[length]
                                    then 0
                                else 1
                            end
                        ) - length
                    ) over (order by length) as edits
                from
                    generate_series(
                        greatest(0, edits.letters_done + 1 - edits.allowed_edits),
                        least(
                            cardinality(edits.other_letters),
                            edits.letters_done + 1 + edits.allowed_edits
                        )
                    ) as lengths (length)
            ) as reached
        ) as next_row
    where
        edits.letters_done < cardinality(edits.one_letters)
        and next_row.fewest <= edits.allowed_edits
),

similar_pairs as (
    select
        one_id,
        other_id
    from differing
    where greatest(cardinality(one_letters), cardinality(other_letters)) <= allowed_edits
    union all
    select
        one_id,
        other_id
    from edits
    where
        letters_done = cardinality(one_letters)
        and edits_so_far[cardinality(edits_so_far)] <= allowed_edits
),

similar_arms as (
    select one_id as design_group_id from similar_pairs
    union
    select other_id as design_group_id from similar_pairs
)

select
    experimental_arms.design_group_id,
    experimental_arms.nct_id,
    experimental_arms.label,
    similar_arms.design_group_id is not null as is_similar_to_another
from experimental_arms
left join similar_arms on experimental_arms.design_group_id = similar_arms.design_group_id
