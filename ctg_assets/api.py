"""A data folder for people in notebooks: tables, versions, changes, the past, as Arrow.

Tables are computed from the lake, by the code that fills the database. No database is needed, and none is
started, but by `refresh`.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.errors import CtgAssetsError
from ctg_assets.lake import Lake, existing_lake
from ctg_assets.load.as_of import contents_at, rows_of_contents
from ctg_assets.load.history_rows import version_rows
from ctg_assets.load.row_sources import row_sources, staging_shapes, study_shapes
from ctg_assets.model.history_tables import STUDY_CHANGES, STUDY_VERSIONS
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import ENV_PREFIX, Settings, load_settings
from ctg_assets.snapshot.compaction import ROW_GROUP_ROWS
from ctg_assets.snapshot.store import SnapshotManifest, snapshot_schema
from ctg_assets.snapshot.typed_contents import CONTENT_COLUMNS, type_contents
from ctg_assets.times import parse_data_timestamp, parse_time, require_possible

_STUDY = pa.field("study", pa.large_binary(), nullable=False)

# In a process of its own: Dagster and dbt turn logging, standard output and the working directory upside down.
_REFRESH = "import sys; sys.argv[0] = 'ctg-assets'; from ctg_assets.cli.app import main; main()"

# The end of what a refresh printed says why it failed.
_LINES_TOLD = 15


class NoDataError(CtgAssetsError, LookupError):
    """The data folder holds no studies yet; the message says how to get them."""


class UnknownNameError(CtgAssetsError, LookupError):
    """There is no such table, column or study; the message names those that are nearest, if any."""


class RefreshError(CtgAssetsError):
    """A refresh did not succeed; `exit_code` is that of `ctg-assets refresh`, the message what it said last."""

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(f"refresh ended with exit code {exit_code}: {said}")
        self.exit_code = exit_code


def open_folder(folder: str | Path | None = None, **settings: object) -> DataFolder:
    """A data folder: `folder`, else what CTG_DATA_DIR says, else `data` in the current folder.

    `settings` win over the environment (`page_size=100` over CTG_PAGE_SIZE). Nothing is read or created
    yet. Raises SettingsError for a setting that cannot be used.
    """
    overrides = settings if folder is None else {**settings, "data_dir": folder}
    return DataFolder(load_settings(**overrides), overrides)


class _Studies(ABC):
    """All studies at one time: as the registry nests them, and as flat tables."""

    @property
    @abstractmethod
    def tables(self) -> list[str]:
        """The names of the flat tables, as docs/data_dictionary.md describes them."""

    @abstractmethod
    def study_batches(self) -> Iterator[pa.Table]:
        """As `studies`, some thousand studies at a time, so that memory stays bounded."""

    @abstractmethod
    def _batches(self, name: str) -> Iterator[pa.Table]:
        """The rows of a table that exists, batch by batch."""

    def studies(self) -> pa.Table:
        """One row a study, nested as the registry has it; studies in quarantine are left out."""
        return _joined(self.study_batches(), snapshot_schema())

    def batches(self, name: str) -> Iterator[pa.Table]:
        """As `table`, batch by batch, so that memory stays bounded."""
        _require_known("table", name, self.tables)
        return self._batches(name)

    def table(self, name: str) -> pa.Table:
        """A flat table, with the rows that schema `staging` has of it.

        Raises UnknownNameError for a table that does not exist, and NoDataError.
        """
        return _joined(self.batches(name), _arrow_schema(name))


class DataFolder(_Studies):
    """What lies in one data folder: the studies as they are now, and how they came to be.

    Everything that reads raises NoDataError while there are no studies, and DamagedFileError for a file
    that is not as it was written. Each call reads the newest snapshot that there is then.
    """

    def __init__(self, settings: Settings, overrides: dict[str, object]) -> None:
        """Use `open`."""
        self._settings = settings
        self._overrides = overrides

    def __repr__(self) -> str:
        return f"<ctg_assets.DataFolder {self.path}>"

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._settings.data_dir

    @property
    def data_timestamp(self) -> datetime:
        """The registry's data timestamp of the studies (UTC)."""
        return parse_data_timestamp(self._snapshot()[1].data_timestamp)

    @property
    def tables(self) -> list[str]:
        """The names of the flat tables, those of the history included."""
        return [shape.name for shape in staging_shapes()]

    def studies(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a study, nested as the registry has it; studies in quarantine are left out.

        `columns` are dotted paths (`protocolSection.statusModule`); only those are read, which is much
        faster. A nested one comes within what encloses it. Raises UnknownNameError for one that does not
        exist.
        """
        return pa.concat_tables(self.study_batches(columns))

    def study_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """As `studies`, some thousand studies at a time, so that memory stays bounded."""
        for path in columns or ():
            _require_column(path)
        lake, manifest = self._snapshot()
        return lake.snapshots.batches(manifest.snapshot_id, columns)

    def _batches(self, name: str) -> Iterator[pa.Table]:
        lake, manifest = self._snapshot()
        [source] = [
            source for source in row_sources() if name in {shape.name for shape in source.shapes}
        ]
        return _tables_named(name, source.batches(lake, manifest, [name]))

    def versions(self, nct_id: str) -> pa.Table:
        """The periods in which a study had one content, oldest first: table `study_versions` of the study.

        Column `study` is the content, its JSON byte for byte as the registry sent it. Raises
        UnknownNameError for a study never seen.
        """
        lake, _ = self._snapshot()
        periods = lake.history.periods().filter(pl.col("nct_id") == nct_id).sort("valid_from")
        rows = _joined(version_rows(periods), STUDY_VERSIONS.arrow_schema)
        if not rows.num_rows:
            message = f"no study {nct_id!r} was ever seen in {self.path}"
            raise UnknownNameError(message)
        found: dict[str, bytes] = {}
        wanted = periods.select(CONTENT_COLUMNS).unique("content_hash", maintain_order=True)
        for contents in lake.history.contents(wanted, ROW_GROUP_ROWS):
            found |= dict(
                zip(
                    contents["content_hash"].to_pylist(), contents["study"].to_pylist(), strict=True
                )
            )
        studies = [found[content_hash] for content_hash in rows["content_hash"].to_pylist()]
        return rows.append_column(_STUDY, pa.array(studies, _STUDY.type))

    def changes(
        self,
        nct_id: str | None = None,
        *,
        since: str | date | datetime | None = None,
        after: int = 0,
    ) -> pa.Table:
        """What happened to studies, in the order of `change_seq`: table `study_changes`, or some of it.

        Of one study, if `nct_id` is given; observed at a time or later, if `since` is. `after` is the
        highest `change_seq` seen so far: whoever reads on from it misses nothing, not even older contents
        that were imported later. Raises ValueError for a `since` that is no time.
        """
        start = None if since is None else _moment(since, "since", end_of_day=False)
        kept = [
            _changes_wanted(rows, nct_id, start, after) for rows in self.batches(STUDY_CHANGES.name)
        ]
        return _joined(kept, STUDY_CHANGES.arrow_schema).sort_by("change_seq")

    def as_of(self, at: str | date | datetime) -> PastStudies:
        """The studies as they stood at a time: a day (its end, UTC), or a time (UTC unless it says otherwise).

        Raises NothingObservedError for a time before the first observation, ImpossibleTimeError for one
        that is later than now, ValueError for a text that is no time.
        """
        moment = require_possible(_moment(at, "as_of", end_of_day=True), "as_of")
        lake, _ = self._snapshot()
        return PastStudies(lake, moment, contents_at(lake, moment).select(CONTENT_COLUMNS))

    def refresh(self, *, mode: str | None = None, again: bool = False, quiet: bool = False) -> None:
        """Bring everything up to date, as `ctg-assets refresh` does, tables and marts in Postgres included.

        `mode` and `again` are that command's options. What it says is printed, unless `quiet`. Raises
        RefreshError if it does not succeed, ValueError for an unknown mode.
        """
        options = [] if mode is None else [f"--mode={RefreshMode(mode)}"]
        options += ["--again"] if again else []
        variables = {ENV_PREFIX + name.upper(): str(v) for name, v in self._overrides.items()}
        variables |= {f"{ENV_PREFIX}DATA_DIR": str(self.path), "PYTHONUNBUFFERED": "1"}
        last: deque[str] = deque(maxlen=_LINES_TOLD)
        with subprocess.Popen(  # noqa: S603 - our own arguments
            [sys.executable, "-c", _REFRESH, "refresh", *options],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            try:
                for line in process.stdout:
                    last.append(line)
                    if not quiet:
                        sys.stdout.write(line)
            except KeyboardInterrupt:
                # What is finished stays, and the next refresh goes on from there.
                process.terminate()
                raise
        if process.returncode:
            raise RefreshError(process.returncode, "".join(last).strip())

    def _snapshot(self) -> tuple[Lake, SnapshotManifest]:
        lake = existing_lake(self._settings)
        manifest = lake.snapshots.latest()
        if manifest is None:
            message = (
                f"there are no studies in {self.path} yet; call refresh() on it, or run `ctg-assets "
                f"refresh` with CTG_DATA_DIR={self.path}"
            )
            raise NoDataError(message)
        return lake, manifest


class PastStudies(_Studies):
    """The studies as they stood at a time; made by `DataFolder.as_of`. Gone studies are there again."""

    def __init__(self, lake: Lake, at: datetime, contents: pl.DataFrame) -> None:
        """Use `DataFolder.as_of`."""
        self._lake = lake
        self._contents = contents
        self.at = at

    def __repr__(self) -> str:
        return f"<ctg_assets.PastStudies {self.at:%Y-%m-%d %H:%M:%S} UTC>"

    @property
    def tables(self) -> list[str]:
        """The names of the flat tables; not of the history's, which are of no single time."""
        return [shape.name for shape in study_shapes()]

    def study_batches(self) -> Iterator[pa.Table]:
        """As `studies`, some thousand studies at a time, so that memory stays bounded."""
        for rows in self._lake.history.contents(self._contents, ROW_GROUP_ROWS):
            yield type_contents(rows).studies

    def _batches(self, name: str) -> Iterator[pa.Table]:
        return _tables_named(name, rows_of_contents(self._lake, self._contents, [name]))


def _joined(batches: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *batches])


def _tables_named(name: str, batches: Iterable[Any]) -> Iterator[pa.Table]:
    for tables in batches:
        if name in tables:
            yield tables[name]


def _arrow_schema(table: str) -> pa.Schema:
    [shape] = [shape for shape in staging_shapes() if shape.name == table]
    return shape.arrow_schema


def _changes_wanted(
    rows: pa.Table, nct_id: str | None, since: datetime | None, after: int
) -> pa.Table:
    wanted = pc.field("change_seq") > after
    if nct_id is not None:
        wanted &= pc.field("nct_id") == nct_id
    if since is not None:
        wanted &= pc.field("observed_at") >= pa.scalar(since, pa.timestamp("us", "UTC"))
    return rows.filter(wanted)


def _moment(at: str | date | datetime, name: str, *, end_of_day: bool) -> datetime:
    """A time (aware) as people give it; a day is its beginning or its end."""
    if isinstance(at, str):
        try:
            return parse_time(at, end_of_day=end_of_day)
        except ValueError as error:
            message = f"{name}: {error}"
            raise ValueError(message) from None
    if not isinstance(at, datetime):
        at = datetime.combine(at, time.max if end_of_day else time.min)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _require_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        message = f"there is no {what} {name!r}; the nearest are {', '.join(near)}"
        if len(near) == len(known):
            message = f"there is no {what} {name!r}; there are {', '.join(near)}"
        raise UnknownNameError(message)


def _require_column(path: str) -> None:
    within: pa.DataType = pa.struct(list(snapshot_schema()))
    above = ""
    for name in path.split("."):
        known = [field.name for field in within] if pa.types.is_struct(within) else []
        _require_known("column", above + name, [above + each for each in known])
        above += f"{name}."
        within = within.field(name).type
