{#-
    A name for comparing: lower case, accents off, `&` as `and`, no dots or apostrophes (`S.A.` is `sa`), every
    other sign a blank. `translate` looks at each of its characters for each one of the text, so that most
    texts, which are ASCII, go without the long one.
-#}
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
