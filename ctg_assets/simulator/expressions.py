"""Expressions of the query language: which studies each kind matches, and which fields it looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctg_assets.model.fields import FieldNode
from ctg_assets.simulator.naming import keys_of, values
from ctg_assets.simulator.scales import measure_of


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
