{% macro folded(text) -%}
    btrim(regexp_replace(
        replace(
            translate(
                case when octet_length({{ text }}) = length({{ text }}) then lower({{ text }}) else translate(
                    lower({{ text }}),
                    'áàâäãåāąăæçćčďđéèêëēęěğíìîïīıłñńňóòôöõøōőœřšśşșßťţțúùûüūůűýÿžźż’‘´',
                    'aaaaaaaaaacccddeeeeeeegiiiiiilnnnooooooooorssssstttuuuuuuuyyzzz'
                ) end, '.''`', ''
            ), '&', ' and '
        ), '[^[:alnum:]]+', ' ', 'g'
    ))
{%- endmacro %}
