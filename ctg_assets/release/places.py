"""Where releases are: a folder or an object store; and making one there as the settings say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ctg_assets.errors import TransientError
from ctg_assets.lake import existing_lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.copied_marts import marts_made_from
from ctg_assets.refresh.desired_state import actual_state, desired_state
from ctg_assets.release.making import ReleaseReport, ReleaseRequest, make_release
from ctg_assets.release.signing import read_private_key
from ctg_assets.release.warehouse_tables import ReleasedWarehouse, WarehouseContent
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.storage.data_folder import SCRATCH, data_folder, file_lock
from ctg_assets.storage.files import Storage

# The lock of the data folder, and the name of the folder for what is under way.
_WORK = "release"


class NotLoadedError(TransientError):
    """The database does not hold what is to be released yet."""


def open_place(place: str, scratch: Path) -> Storage:
    """A folder, or what is below a URL such as s3://bucket/prefix; `scratch` is a local folder for temporary files.

    Nothing is asked of it yet. Raises StorageError for a URL that cannot be used.
    """
    if "://" in place:
        return Storage.remote(place, scratch)
    return Storage.local(Path(place).expanduser().absolute())


def release_to(
    settings: Settings,
    place: str,
    show: Callable[[str], None],
    *,
    lake_only: bool = False,
    iceberg: bool = False,
) -> ReleaseReport:
    """Release what is in the data folder to a place, one release at a time; `show` is told what is being done.

    With `lake_only`, or where the settings want none, no database is needed; with `iceberg`, or where the settings
    want it, there are Iceberg's metadata, too. Raises SigningKeyError for a key
    that cannot be used, NotLoadedError when the database does not hold the newest snapshot, and what
    `make_release` raises.
    """
    key = None if settings.release_key is None else read_private_key(settings.release_key)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file_lock(settings, _WORK))
        scratch = data_folder(settings, SCRATCH)
        warehouse = None
        if settings.has_warehouse and not lake_only:
            show("opening the database")
            address = stack.enter_context(open_postgres(settings))
            warehouse = ReleasedWarehouse(address, partial(_content, settings, address))
        return make_release(
            ReleaseRequest(
                lake=existing_lake(settings),
                target=open_place(place, scratch),
                scratch=scratch / _WORK,
                keep=settings.keep_releases,
                warehouse=warehouse,
                key=key,
                iceberg=iceberg or settings.release_iceberg,
                show=show,
            )
        )


def _content(
    settings: Settings, address: PostgresAddress, manifest: SnapshotManifest
) -> WarehouseContent:
    """What the tables in the database are made from, if that is this snapshot and nothing else."""
    wanted, held = desired_state(settings, manifest), actual_state(settings)
    if held != wanted:
        message = (
            f"the database does not hold everything of snapshot {manifest.snapshot_id}, of data version "
            f"{manifest.data_timestamp}, yet; run `ctg-assets refresh`, or release with --lake-only, without marts and "
            "AACT's tables"
        )
        raise NotLoadedError(message)
    made_from = marts_made_from(address)
    marts = {name: made_from[name] for name in wanted.marts}
    return WarehouseContent(marts, wanted.ctgov_fingerprint)
