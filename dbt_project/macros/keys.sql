{#-
    The one place where natural keys of dimensions are defined and hashed, in the columns of the
    staging views. A dimension and its fact call the same macro, so neither needs the other to be
    built first, nor a join of 3.5 million sites on five text columns.
-#}

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
    that the spellings of a study that changes can be taken off the tables that count them.
-#}
{% macro spelling_key(parts) -%}
    ('x' || left(md5(cast(row({{ parts | join(", ") }}) as text)), 16))::bit(64)::bigint
{%- endmacro %}

{% macro sponsor_spelling_key() -%}
    {{ spelling_key(["name", "agency_class"]) }}
{%- endmacro %}

{% macro condition_spelling_key() -%}
    {{ spelling_key(["name"]) }}
{%- endmacro %}

{% macro intervention_spelling_key() -%}
    {{ spelling_key(["intervention_type", "name"]) }}
{%- endmacro %}

{% macro site_spelling_key() -%}
    {{ spelling_key(["name", "city", "state", "zip", "country", "latitude", "longitude"]) }}
{%- endmacro %}

{#- By this, names of conditions and interventions are found among MeSH headings. -#}
{% macro name_key(name) -%}
    {{ surrogate_key([name]) }}
{%- endmacro %}

{% macro sponsor_key() -%}
    {{ surrogate_key(["name"]) }}
{%- endmacro %}

{% macro condition_key() -%}
    {{ surrogate_key(["name"]) }}
{%- endmacro %}

{% macro intervention_key() -%}
    {{ surrogate_key(["intervention_type", "name"]) }}
{%- endmacro %}

{% macro site_key() -%}
    {{ surrogate_key(["name", "city", "state", "zip", "country"]) }}
{%- endmacro %}
