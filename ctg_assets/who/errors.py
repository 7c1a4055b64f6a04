"""What can go wrong with WHO's data, beside what goes wrong between us and an API (`registry/errors.py`)."""

from __future__ import annotations

from ctg_assets.errors import CtgAssetsError, ExitCode, PermanentError
from ctg_assets.registry.errors import PermanentRegistryError, TransientRegistryError


class WhoError(CtgAssetsError):
    """An indicator cannot be refreshed; the message says what was tried, what was found and what to do."""


class IndicatorFileError(WhoError, PermanentError):
    """A file of indicators cannot be read or written, or an indicator in it cannot be asked for."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


class UnknownIndicatorError(WhoError, PermanentError):
    """No indicator of this code is in our files."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


class NothingFetchedError(WhoError, PermanentError):
    """There is no complete walk, or no release, of an indicator to go on from."""


class IncompleteAnswerError(TransientRegistryError):
    """Pages do not add up to what was counted, or the data moved between two of them."""


class NextLinkError(PermanentRegistryError):
    """A next link leads back, or away from the API."""
