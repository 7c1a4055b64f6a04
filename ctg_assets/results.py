"""Results and states that several stages share.

What a stage tells those after it stands here when more than one of them needs it, so that no stage has to know
another for the sake of a type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Listing:
    """A table among the facts of a check's result."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check: a `blocking` failure stops what comes after."""

    passed: bool
    description: str
    blocking: bool = True
    facts: Mapping[str, int | float | str | Listing] = field(default_factory=dict)


@dataclass(frozen=True)
class FailedCheck:
    """A check of an asset that did not pass when it was last made."""

    asset: str
    name: str
    description: str
    is_warning: bool
