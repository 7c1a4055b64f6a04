{#-
    Each MeSH heading in a table of terms, with one descriptor id: the one used most. Records in the
    beta API's spelling pad ids to nine digits (D000006973 for D006973), so a heading can have two.
-#}
{% macro mesh_headings(terms) -%}
    select distinct on (normalised_term)
        normalised_term,
        mesh_term,
        mesh_id
    from (
        select
            {{ normalised(["mesh_term"]) }} as normalised_term,
            mesh_term,
            mesh_id,
            count(*) as uses
        from {{ terms }}
        group by mesh_term, mesh_id
    ) as term_uses
    order by normalised_term asc, uses desc, mesh_id collate "C" asc, mesh_term collate "C" asc
{%- endmacro %}
