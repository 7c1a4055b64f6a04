"""The one root of our errors, and what the exit code of a command means."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code of a command means."""

    FAILED = 1
    UNUSABLE_SETTINGS = 2
    BLOCKED_BY_CHECK = 3
    BUSY = 4
    INTERRUPTED = 130


class CtgAssetsError(Exception):
    """Something that we foresee went wrong; the message says what was tried, what was found, what to do.

    `exit_code` is that of a command which ends with it.
    """

    exit_code: int = ExitCode.FAILED


class TransientError(CtgAssetsError):
    """The same may succeed later, with nobody changing anything."""


class PermanentError(CtgAssetsError):
    """The same will fail again until somebody changes data, settings or what is asked."""
