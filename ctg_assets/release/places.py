"""Where releases are: a folder or an object store; and making one there as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ctg_assets.lake import existing_lake
from ctg_assets.release.making import ReleaseReport, ReleaseRequest, make_release
from ctg_assets.release.signing import read_private_key
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import SCRATCH, data_folder, file_lock
from ctg_assets.storage.files import Storage

# The lock of the data folder, and the name of the folder for what is under way.
_WORK = "release"


def open_place(place: str, scratch: Path) -> Storage:
    """A folder, or what is below a URL such as s3://bucket/prefix; `scratch` is a local folder for temporary files.

    Nothing is asked of it yet. Raises StorageError for a URL that cannot be used.
    """
    if "://" in place:
        return Storage.remote(place, scratch)
    return Storage.local(Path(place).expanduser().absolute())


def release_to(settings: Settings, place: str, show: Callable[[str], None]) -> ReleaseReport:
    """Release what is in the data folder to a place, one release at a time; `show` is told what is being done.

    Raises SigningKeyError for a key that cannot be used, and what `make_release` raises.
    """
    key = None if settings.release_key is None else read_private_key(settings.release_key)
    with file_lock(settings, _WORK):
        scratch = data_folder(settings, SCRATCH)
        return make_release(
            ReleaseRequest(
                lake=existing_lake(settings),
                target=open_place(place, scratch),
                scratch=scratch / _WORK,
                keep=settings.keep_releases,
                key=key,
                show=show,
            )
        )
