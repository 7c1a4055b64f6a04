"""A process that uses the server of a data folder: `python -m ...holder FOLDER [work]`.

It prints a line when it is where the test wants it, then waits until its input closes. Work is
`hold`, or a phase of a load (`copy`, `index`, `check`, `swap`) at whose first report it waits, or one
of a delta (`delta compare`, `delta replace`, `delta commit`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadProgress, LoadRequest
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests.support.postgres import ALL, batch, build, nct_id, settings_for


def _here(place: str) -> None:
    print(place, flush=True)  # noqa: T201
    sys.stdin.read()


def _batches() -> Iterator[dict[str, pa.Table]]:
    yield batch(range(1, 200), version=2)
    yield batch(range(200, 400), version=2)


def main() -> None:
    """Hold or load, as the command line says."""
    folder, work = Path(sys.argv[1]), sys.argv[2]
    dbname = sys.argv[3] if len(sys.argv) > 3 else None
    with open_postgres(settings_for(folder)) as address:
        if work == "hold":
            _here(address.url)
            return

        def progress(state: LoadProgress) -> None:
            if state.phase == work.removeprefix("delta "):
                _here(work)

        target = address if dbname is None else address.database(dbname)
        if not work.startswith("delta "):
            load_tables(LoadRequest(target, ALL, build=build(2), progress=progress), _batches())
            return
        apply_delta(
            LoadRequest(target, ALL, build=build(2), progress=progress),
            ChangesSince(
                base_snapshot_id="snapshot-1", studies=[nct_id(study) for study in range(1, 400)]
            ),
            map(RowBatch, _batches()),
        )


if __name__ == "__main__":
    main()
