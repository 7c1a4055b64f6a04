{% macro postgres__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- set said = {"": model.description} if for_relation and config.persist_relation_docs() and model.description else {} -%}
    {%- for name, column in model.columns.items() if for_columns and config.persist_column_docs() -%}
        {%- do said.update({name: column.description}) -%}
    {%- endfor -%}
    {%- set missing = run_query(
        "select " ~ notes("describe") ~ "('" ~ relation ~ "', " ~ postgres_escape_comment(tojson(said)) ~ ")"
    ).rows[0][0] -%}
    {%- if missing -%}
        {%- do exceptions.warn("In relation " ~ relation ~ ": columns are described that are not there: " ~ missing) -%}
    {%- endif -%}
{%- endmacro %}
