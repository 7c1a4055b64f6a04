"""How many studies the registry said that it has, and how many are in a release."""

from __future__ import annotations

from ctg_assets.lake import Lake
from ctg_assets.release.manifest import Census
from ctg_assets.snapshot.store import SnapshotManifest


def take_census(lake: Lake, manifest: SnapshotManifest) -> Census:
    """The census of a snapshot, by the last walk of everything that the registry counted."""
    here = f"{manifest.studies:,} studies are here"
    if manifest.quarantined:
        here += f", {manifest.quarantined:,} more could not be typed"
    for entry in reversed(lake.history.entries()):
        if entry.sequence > manifest.history_sequence or not entry.mode.covers_scope:
            continue
        try:
            counted = lake.history.plan(entry.sequence).expected_studies
        except KeyError:  # of a release that did not keep it
            continue
        if counted is None:
            continue
        missing = counted - entry.studies
        found = (
            "all of them were found"
            if missing == 0
            else f"{missing:,} fewer were found"
            if missing > 0
            else f"{-missing:,} more were found"
        )
        return Census(
            registry_counted=counted,
            counted_at=entry.data_timestamp,
            seen_then=entry.studies,
            here=manifest.studies,
            quarantined=manifest.quarantined,
            verdict=f"the registry counted {counted:,} studies as of {entry.data_timestamp} UTC, {found}; {here} now",
        )
    return Census(
        registry_counted=None,
        counted_at=None,
        seen_then=None,
        here=manifest.studies,
        quarantined=manifest.quarantined,
        verdict=f"nobody asked the registry how many studies it has; {here}",
    )
