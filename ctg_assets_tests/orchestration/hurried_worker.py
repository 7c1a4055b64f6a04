"""`ctg-assets worker`, but that leases of the dead in the object store are anybody's after seconds, not a minute."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from ctg_assets.cli import main
from ctg_assets.storage.objects import ObjectBackend

_LEASE_TIME = timedelta(seconds=8)

if __name__ == "__main__":
    backend: Any = ObjectBackend
    backend.connect = partial(ObjectBackend.connect, lease_time=_LEASE_TIME)
    main()
