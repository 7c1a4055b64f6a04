"""The whole of ClinicalTrials.gov as Dagster assets, and a few names for people in notebooks.

    import ctg_assets

    registry = ctg_assets.open("data")
    conditions = registry.table("conditions")

The rooms of this package, and what each must not do, are listed in docs/architecture.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctg_assets.api import DataFolder, NoDataError, PastStudies, RefreshError, UnknownNameError
    from ctg_assets.api import open_folder as open  # noqa: A004 - as in gzip.open

__version__ = "0.1.0"

__all__ = ["DataFolder", "NoDataError", "PastStudies", "RefreshError", "UnknownNameError", "open"]


def __getattr__(name: str) -> Any:
    # What the names stand for takes seconds to import, so that waits until one of them is used.
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from ctg_assets import api  # noqa: PLC0415

    return getattr(api, "open_folder" if name == "open" else name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
