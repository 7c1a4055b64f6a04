{#-
    The text by which things are the same: parts trimmed, white space runs made one space, lower
    case, joined by the unit separator, which no registry text contains. NULL and empty agree.

    Single spaces are left alone by the pattern: it is four times as fast as `\s+`. `lower` follows
    the database's locale (see tests/database_folds_case.sql).
-#}
{% macro normalised(parts) -%}
    lower(regexp_replace(
        {%- for part in parts %}
        coalesce(btrim({{ part }}, E' \t\n\r\u00a0'), '')
        {%- if not loop.last %} || chr(31) ||{% endif %}
        {%- endfor %},
        '\s{2,}|[\t\n\r\u00a0]', ' ', 'g'
    ))
{%- endmacro %}

{#-
    64 bits of the MD5 of the natural key, as bigint: the same on every machine and server version
    (unlike hashtext), and a quarter of the size of MD5's text in every fact row and index. Among a
    million members two share a key with a chance of 1 in 37 million; the unique tests would tell.
-#}
{% macro surrogate_key(parts) -%}
    ('x' || left(md5({{ normalised(parts) }}), 16))::bit(64)::bigint
{%- endmacro %}

{#-
    64 bits of the MD5 of parts exactly as they are spelled, NULL and empty apart. Facts keep it, so
    that dimensions count spellings without comparing texts.
-#}
{% macro spelling_key(parts) -%}
    ('x' || left(md5(cast(row({{ parts | join(", ") }}) as text)), 16))::bit(64)::bigint
{%- endmacro %}
