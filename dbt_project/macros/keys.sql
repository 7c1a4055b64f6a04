{% macro normalised(parts) -%}
    lower(regexp_replace(
        {%- for part in parts %}
        coalesce(btrim({{ part }}, E' \t\n\r\u00a0'), '')
        {%- if not loop.last %} || chr(31) ||{% endif %}
        {%- endfor %},
        '\s{2,}|[\t\n\r\u00a0]', ' ', 'g'
    ))
{%- endmacro %}

{% macro surrogate_key(parts) -%}
    ('x' || left(md5({{ normalised(parts) }}), 16))::bit(64)::bigint
{%- endmacro %}

{% macro spelling_key(parts) -%}
    ('x' || left(md5(cast(row({{ parts | join(", ") }}) as text)), 16))::bit(64)::bigint
{%- endmacro %}
