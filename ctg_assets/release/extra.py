"""Whether the libraries of the extra `release` are there."""

from __future__ import annotations

from importlib.util import find_spec

from ctg_assets.errors import CtgAssetsError

_LIBRARIES = ("adbc_driver_postgresql", "cryptography", "duckdb")


class ReleaseNotInstalledError(CtgAssetsError):
    """Releases can be neither made nor checked; the message says what to install."""


def release_installed() -> bool:
    """Whether releases can be made and checked."""
    return all(find_spec(name) is not None for name in _LIBRARIES)


def require_release() -> None:
    """Raise ReleaseNotInstalledError if releases can be neither made nor checked."""
    if not release_installed():
        message = (
            f"releases need {', '.join(_LIBRARIES)}, which are not all installed; install them with "
            "`pip install 'ctg-assets[release]'`"
        )
        raise ReleaseNotInstalledError(message)
