"""The registry's recorded answers about its own data."""

from __future__ import annotations

import gzip

from ctg_assets_tests.shared_material import shared_path


def recorded_answers() -> tuple[bytes, bytes]:
    """The recorded answers to `/studies/metadata` and `/studies/enums`."""
    return (
        gzip.decompress(shared_path("spec/studies-metadata.json.gz").read_bytes()),
        shared_path("spec/studies-enums.json").read_bytes(),
    )
