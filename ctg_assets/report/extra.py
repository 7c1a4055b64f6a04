"""Whether the libraries that draw are there; the page of one study needs none of them."""

from __future__ import annotations

from importlib.util import find_spec

from ctg_assets.errors import CtgAssetsError

_LIBRARIES = ("altair", "vl_convert")


class PlotsNotInstalledError(CtgAssetsError):
    """The report cannot be drawn; the message says what to install."""


def plots_installed() -> bool:
    """Whether the report can be drawn."""
    return all(find_spec(name) is not None for name in _LIBRARIES)


def require_plots() -> None:
    """Raise PlotsNotInstalledError if the report cannot be drawn."""
    if not plots_installed():
        message = (
            "the report needs altair and vl-convert-python, which are not installed; install them with "
            "`pip install 'ctg-assets[report]'`"
        )
        raise PlotsNotInstalledError(message)
