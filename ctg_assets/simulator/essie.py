"""Essie, the registry's query language: from text to an expression that studies match or do not.

Understood: words, quoted phrases, AND, OR, NOT, parentheses, AREA, RANGE, MISSING, ALL, COVERAGE and
SEARCH on nested lists. Words side by side must all occur, which is narrower than the real engine's
synonyms and stemming; EXPANSION, TILT and DISTANCE are refused like any misspelt operator.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import lark

from ctg_assets.model.fields import FieldNode, enum_values
from ctg_assets.model.values import YEARS_PER_UNIT
from ctg_assets.simulator.naming import keys_of, resolve, values

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


@dataclass(frozen=True)
class Everything:
    """Matches every study."""

    def matches(self, study: object) -> bool:
        """True."""
        del study
        return True

    def paths(self) -> frozenset[str]:
        """No field is looked at."""
        return frozenset()


@dataclass(frozen=True)
class Missing:
    """Matches studies that hold nothing at any of these nodes."""

    nodes: tuple[FieldNode, ...]

    def matches(self, study: object) -> bool:
        """Whether the study holds no value there."""
        return not any(True for node in self.nodes for _ in values(study, node.path))

    def paths(self) -> frozenset[str]:
        """The fields looked at."""
        return frozenset(node.path for node in self.nodes)


@dataclass(frozen=True)
class Equals:
    """Matches studies that hold this very enum value or boolean at the node."""

    node: FieldNode
    value: str | bool

    def matches(self, study: object) -> bool:
        """Whether one of the study's values there is the value."""
        return any(found == self.value for found in values(study, self.node.path))

    def paths(self) -> frozenset[str]:
        """The field looked at."""
        return frozenset((self.node.path,))


@dataclass(frozen=True)
class Between:
    """Matches studies with a date, number or age at the node within the bounds, both inclusive."""

    node: FieldNode
    lower: float | None
    upper: float | None

    def matches(self, study: object) -> bool:
        """Whether one of the study's values there lies between the bounds."""
        measure = measure_of(self.node)
        return any(
            at is not None
            and (self.lower is None or self.lower <= at)
            and (self.upper is None or at <= self.upper)
            for at in map(measure, values(study, self.node.path))
        )

    def paths(self) -> frozenset[str]:
        """The field looked at."""
        return frozenset((self.node.path,))


@dataclass(frozen=True)
class Contains:
    """Matches studies with a text matching the pattern at one of the nodes."""

    nodes: tuple[FieldNode, ...]
    pattern: re.Pattern[str]

    def matches(self, study: object) -> bool:
        """Whether the pattern is found in one of the study's texts there."""
        return any(
            self.pattern.search(text)
            for node in self.nodes
            for value in values(study, node.path)
            for text in _texts(value)
        )

    def paths(self) -> frozenset[str]:
        """The fields looked at."""
        return frozenset(node.path for node in self.nodes)


@dataclass(frozen=True)
class Within:
    """Matches studies of which a single item of a nested list (one location) matches the expression."""

    node: FieldNode
    expression: Expression

    def matches(self, study: object) -> bool:
        """Whether one item alone, with nothing else of the study, matches."""
        return any(
            self.expression.matches(self._alone(item)) for item in values(study, self.node.path)
        )

    def _alone(self, item: object) -> object:
        for key in reversed(keys_of(self.node.path)):
            item = {key: item}
        return item

    def paths(self) -> frozenset[str]:
        """The nested list, and the fields looked at in it."""
        return self.expression.paths() | {self.node.path}


@dataclass(frozen=True)
class Not:
    """Matches the studies that the expression does not match."""

    expression: Expression

    def matches(self, study: object) -> bool:
        """Whether the expression does not match."""
        return not self.expression.matches(study)

    def paths(self) -> frozenset[str]:
        """The fields looked at."""
        return self.expression.paths()


@dataclass(frozen=True)
class And:
    """Matches the studies that every part matches."""

    parts: tuple[Expression, ...]

    def matches(self, study: object) -> bool:
        """Whether all parts match."""
        return all(part.matches(study) for part in self.parts)

    def paths(self) -> frozenset[str]:
        """The fields looked at."""
        return frozenset().union(*(part.paths() for part in self.parts))


@dataclass(frozen=True)
class Or:
    """Matches the studies that any part matches."""

    parts: tuple[Expression, ...]

    def matches(self, study: object) -> bool:
        """Whether a part matches."""
        return any(part.matches(study) for part in self.parts)

    def paths(self) -> frozenset[str]:
        """The fields looked at."""
        return frozenset().union(*(part.paths() for part in self.parts))


Expression = Everything | Missing | Equals | Between | Contains | Within | Not | And | Or


def conjuncts(expression: Expression) -> tuple[Expression, ...]:
    """The parts that all have to match."""
    if isinstance(expression, And):
        return tuple(part for inner in expression.parts for part in conjuncts(inner))
    return (expression,)


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
            return Or(tuple(_build(child, scope) for child in children))
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
    if node is not None and node.base_type in _MEASURES:
        lower, upper = _span(node, " ".join(items))
        return Between(node, lower, upper)
    if scope.coverage != "Contains":
        items = [" ".join(items)]
    patterns = [_pattern(item, scope.coverage) for item in items]
    parts = tuple(Contains(scope.nodes, pattern) for pattern in patterns if pattern)
    return And(parts) if parts else Everything()


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
    if node is None or node.base_type not in _MEASURES:
        names = ", ".join(item.piece for item in scope.nodes)
        message = f"RANGE is not applicable to {names}"
        raise EssieError(message)
    lower = None if bounds[0] == "MIN" else _span(node, bounds[0])[0]
    upper = None if bounds[1] == "MAX" else _span(node, bounds[1])[1]
    return Between(node, lower, upper)


def _span(node: FieldNode, text: str) -> tuple[float, float]:
    """The first and the last measure that a value in a query stands for."""
    if node.base_type in _DATE_TYPES:
        days = first_and_last_day(text)
        if days is not None:
            return days
    else:
        at = measure_of(node)(text)
        if at is not None:
            return at, at
    message = f"Invalid value for field `{_dotted(node)}`: `{text}`"
    raise EssieError(message)


def _texts(value: object) -> Iterator[str]:
    """All texts at and below a value, as a search of a branch node sees them."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)


_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T[\d:]+)?)?)?", re.ASCII)
_US_DATE = re.compile(r"(\d\d)/(?:(\d\d)/)?(\d{4})", re.ASCII)


def first_and_last_day(text: str) -> tuple[int, int] | None:
    """The first and the last day (ordinals) of a full or partial date; None if it is no date."""
    if match := _DATE.fullmatch(text):
        year, month, day = match.groups()
    elif match := _US_DATE.fullmatch(text):
        month, day, year = match.groups()
    else:
        return None
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        last_month = int(month or 12)
        last = date(first.year, last_month, int(day or monthrange(first.year, last_month)[1]))
    except ValueError:
        return None
    return first.toordinal(), last.toordinal()


@lru_cache(maxsize=100_000)
def _first_day(text: str) -> float | None:
    # A study's partial date counts as its first day, in ranges and in sorting.
    days = first_and_last_day(text)
    return None if days is None else days[0]


_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+?)s?", re.ASCII)


def _age_in_years(text: str) -> float | None:
    match = _AGE.fullmatch(text.lower())
    unit = YEARS_PER_UNIT.get(match[2]) if match else None
    return float(Fraction(match[1]) * unit) if match and unit else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) else None


_DATE_TYPES = frozenset({"NormalizedDate", "PartialDate", "DateTimeMinutes"})
_NUMBER_TYPES = frozenset({"integer", "long", "number"})
_MEASURES: dict[str, Callable[[str], float | None]] = {
    **dict.fromkeys(_DATE_TYPES, _first_day),
    **dict.fromkeys(_NUMBER_TYPES, _number),
    "NormalizedTime": _age_in_years,
}
SORTABLE_TYPES = _DATE_TYPES | _NUMBER_TYPES


def measure_of(node: FieldNode) -> Callable[[object], float | None]:
    """How to place a date, number or age of this node on a scale; None for what has no place on it."""
    measure = _MEASURES[node.base_type]
    return lambda value: None if isinstance(value, (dict, list)) else measure(str(value))


def is_date(node: FieldNode) -> bool:
    """Whether the node holds dates."""
    return node.base_type in _DATE_TYPES
