"""What was found of one subject, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad a finding is: nothing to do, worth a look, or in the way of a refresh."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and, unless all is well, what to do."""

    subject: str
    verdict: Verdict
    text: str


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Verdict.OK, text)


def warning(subject: str, text: str) -> Finding:
    """A refresh would work, but not as somebody may believe."""
    return Finding(subject, Verdict.WARNING, text)


def failed(subject: str, text: str) -> Finding:
    """A refresh would fail, or do harm."""
    return Finding(subject, Verdict.FAILED, text)
