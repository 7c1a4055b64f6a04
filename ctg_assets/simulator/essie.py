"""Essie, the registry's query language: from text to an expression that studies match or do not.

Understood: words, quoted phrases, AND, OR, NOT, parentheses, AREA, RANGE, MISSING, ALL, COVERAGE and
SEARCH on nested lists. Words side by side must all occur, which is narrower than the real engine's
synonyms and stemming; EXPANSION, TILT and DISTANCE are refused like any misspelt operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import lark

from ctg_assets.model.fields import FieldNode, enum_values
from ctg_assets.simulator.expressions import (
    And,
    Between,
    Contains,
    Equals,
    Everything,
    Expression,
    Missing,
    Not,
    Or,
    Within,
)
from ctg_assets.simulator.naming import resolve
from ctg_assets.simulator.scales import DATE_TYPES, MEASURES, first_and_last_day, measure_of

# A keyword that is a whole word wins over WORD; a backslash makes it an ordinary word again. The
# basic lexer keeps keywords keywords even where the grammar does not expect them.
_GRAMMAR = r"""
?start: disjunction
?disjunction: conjunction ("OR" conjunction)*
?conjunction: operand ("AND"? operand)*
?operand: "NOT" operand               -> negation
        | "AREA" ARGUMENT operand     -> area
        | "SEARCH" ARGUMENT operand   -> search
        | ("COVERAGE" | "COVER") ARGUMENT operand -> coverage
        | "RANGE" ARGUMENT            -> range
        | "MISSING"                   -> missing
        | "ALL"                       -> everything
        | "(" disjunction ")"
        | (WORD | PHRASE)+            -> term
ARGUMENT: /\[[^\]\[]*\]/
PHRASE: /"(?:[^"\\]|\\.)*"/
WORD: /(?:[^\s()\[\]",\\]|\\.)+/
%ignore /[\s,]+/
"""


class EssieError(ValueError):
    """An expression that cannot be understood; the message is worded as the registry words it."""


def parse(text: str, area: str) -> Expression:
    """The expression in a text; words outside any AREA are sought in `area`.

    Raises EssieError.
    """
    try:
        tree = _parser().parse(text)
    except lark.UnexpectedInput as error:
        raise EssieError(_complaint(error)) from error
    return _build(tree, _Scope(resolve(area)))


@cache
def _parser() -> lark.Lark:
    return lark.Lark(_GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=False)


def _complaint(error: lark.UnexpectedInput) -> str:
    expected = "{<EOF>, '(', ',', 'ALL', 'AND', 'AREA', 'MISSING', 'NOT', 'OR', 'RANGE', WORD}"
    match error:
        case lark.UnexpectedCharacters():
            found = error.char
        case lark.UnexpectedToken() if error.token.type != "$END":
            found = "[" if error.token.type == "ARGUMENT" else str(error.token)
        case _:
            found = "<EOF>"
    return f"mismatched input '{found}' expecting {expected}"


@dataclass(frozen=True)
class _Scope:
    """Where the words of an expression are sought, and how much of a text they have to cover."""

    nodes: tuple[FieldNode, ...]
    coverage: str = "Contains"

    def only_node(self) -> FieldNode | None:
        return self.nodes[0] if len(self.nodes) == 1 else None


def _build(tree: Any, scope: _Scope) -> Expression:  # noqa: C901, PLR0911 - one case per operator
    children = tree.children
    match tree.data:
        case "disjunction":
            return _any_of([_build(child, scope) for child in children])
        case "conjunction":
            return And(tuple(_build(child, scope) for child in children))
        case "negation":
            return Not(_build(children[0], scope))
        case "area":
            return _build(children[1], _Scope(_area(children[0]), scope.coverage))
        case "search":
            node = _nested_list(_argument(children[0]))
            return Within(node, _build(children[1], scope))
        case "coverage":
            coverage = _argument(children[0])
            if coverage not in _COVERAGES:
                message = f"Invalid coverage: {coverage}"
                raise EssieError(message)
            return _build(children[1], _Scope(scope.nodes, coverage))
        case "range":
            return _range(_argument(children[0]), scope)
        case "missing":
            return Missing(scope.nodes)
        case "everything":
            return Everything()
        case _:
            return _term([str(child) for child in children], scope)


def _any_of(parts: list[Expression]) -> Expression:
    """One of the parts; words sought in the same fields are sought together, ten of them in a tenth of the time."""
    patterns: dict[tuple[FieldNode, ...], list[str]] = {}
    for part in parts:
        if isinstance(part, Contains):
            patterns.setdefault(part.nodes, []).append(f"(?:{part.pattern.pattern})")
    words = [
        Contains(nodes, re.compile("|".join(each), re.IGNORECASE))
        for nodes, each in patterns.items()
    ]
    others = [part for part in parts if not isinstance(part, Contains)]
    found = (*words, *others)
    return found[0] if len(found) == 1 else Or(found)


def _argument(token: str) -> str:
    return token[1:-1].strip()


def _area(token: str) -> tuple[FieldNode, ...]:
    name = _argument(token)
    nodes = resolve(name)
    if not nodes:
        message = f"Unknown area name: `{name}`"
        raise EssieError(message)
    return nodes


def _nested_list(name: str) -> FieldNode:
    nodes = resolve(name)
    if len(nodes) != 1 or nodes[0].is_leaf or not nodes[0].is_list:
        message = f"Unknown search document name: `{name}`"
        raise EssieError(message)
    return nodes[0]


_COVERAGES: dict[str, Callable[[str], str]] = {
    "Contains": lambda words: rf"(?<!\w){words}(?!\w)",
    "StartsWith": lambda words: rf"\A\W*{words}(?!\w)",
    "EndsWith": lambda words: rf"(?<!\w){words}\W*\Z",
    "FullMatch": lambda words: rf"\A\W*{words}\W*\Z",
}


def _term(items: list[str], scope: _Scope) -> Expression:
    items = [item[1:-1] if item.startswith('"') else item for item in items]
    items = [re.sub(r"\\(.)", r"\1", item) for item in items]
    node = scope.only_node()
    if node is not None and (node.is_enum or node.base_type == "boolean"):
        return Equals(node, _choice(node, " ".join(items)))
    if node is not None and node.base_type in MEASURES:
        lower, upper = _span(node, " ".join(items))
        return Between(node, lower, upper)
    if scope.coverage != "Contains":
        items = [" ".join(items)]
    patterns = [_pattern(item, scope.coverage) for item in items]
    parts = tuple(Contains(scope.nodes, pattern) for pattern in patterns if pattern)
    if not parts:
        return Everything()
    return parts[0] if len(parts) == 1 else And(parts)


def _pattern(phrase: str, coverage: str) -> re.Pattern[str] | None:
    """The words of a phrase one after the other, whatever stands between them; None without words."""
    words = re.findall(r"\w+", phrase)
    if not words:
        return None
    return re.compile(_COVERAGES[coverage](r"\W+".join(map(re.escape, words))), re.IGNORECASE)


def _choice(node: FieldNode, text: str) -> str | bool:
    wanted = re.sub(r"\s+", "_", text).upper()
    if node.base_type == "boolean":
        if wanted not in {"TRUE", "FALSE"}:
            message = f"Allowed values for boolean field `{_dotted(node)}` are `true`, `false`"
            raise EssieError(message)
        return wanted == "TRUE"
    allowed = [item.value for item in enum_values()[node.base_type]]
    for item in allowed:
        if item.upper() == wanted:
            return item
    listed = ", ".join(f"`{item}`" for item in allowed)
    message = f"Allowed values for enum field `{_dotted(node)}` are {listed}"
    raise EssieError(message)


def _dotted(node: FieldNode) -> str:
    return node.path.replace("[]", "")


def _range(argument: str, scope: _Scope) -> Expression:
    bounds = [bound.strip() for bound in argument.split(",")]
    if len(bounds) != 2:
        message = f"RANGE takes a lower and an upper bound, not [{argument}]"
        raise EssieError(message)
    node = scope.only_node()
    if node is None or node.base_type not in MEASURES:
        names = ", ".join(item.piece for item in scope.nodes)
        message = f"RANGE is not applicable to {names}"
        raise EssieError(message)
    lower = None if bounds[0] == "MIN" else _span(node, bounds[0])[0]
    upper = None if bounds[1] == "MAX" else _span(node, bounds[1])[1]
    return Between(node, lower, upper)


def _span(node: FieldNode, text: str) -> tuple[float, float]:
    """The first and the last measure that a value in a query stands for."""
    if node.base_type in DATE_TYPES:
        days = first_and_last_day(text)
        if days is not None:
            return days
    else:
        at = measure_of(node)(text)
        if at is not None:
            return at, at
    message = f"Invalid value for field `{_dotted(node)}`: `{text}`"
    raise EssieError(message)
