"""What in a study is not the study's: it changes without the study having changed."""

from __future__ import annotations

from typing import Any

VERSION_HOLDER = ("derivedSection", "miscInfoModule", "versionHolder")
"""Where it lies: the day of the registry's data refresh."""


def without_volatile(study: Any) -> Any:
    """A decoded study without `derivedSection.miscInfoModule.versionHolder`; the study itself stays as it is.

    It is the day of the registry's data refresh: it moves on every study every day. What is no text is
    left in: it keeps the study in quarantine, so the day on which it is gone is a change.
    """
    derived = _member(study, "derivedSection")
    misc = _member(derived, "miscInfoModule")
    if not isinstance(misc.get("versionHolder", 0), str | None):
        return study
    kept = {name: value for name, value in misc.items() if name != "versionHolder"}
    return {**study, "derivedSection": {**derived, "miscInfoModule": kept}}


def _member(holder: Any, name: str) -> dict[str, Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}
