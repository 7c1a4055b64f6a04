"""The limit: what remains if everything but parsing JSON and copying rows took no time.

Parsers are timed on bytes in memory, garbage collection off, results dropped at once, one half of the
pages in each of two processes (Arrow's reader has threads of its own). Rows are copied, table by
table, over as many connections as there are cores, into tables without keys, frozen in the
transaction that made them: the cheapest COPY that Postgres has.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.json as pj
from psycopg import sql

from benchmarks.inputs import settings_of
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import page_numbers, pages
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.spec import TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets.snapshot.parsing import parse_studies

_CORES = os.cpu_count() or 1
_SCHEMA = "limit_rows"
_BLOCK_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20

PARSERS = ("simdjson", "pyarrow", "msgspec", "orjson")

# simdjson only checks and indexes a document; the others hand out its values.
WITHOUT_VALUES = ("simdjson",)


def parse(data_dir: str, parser: str) -> Outcome:
    """Parse a set's studies with one of PARSERS on all cores."""
    numbers = page_numbers(data_dir)
    if parser == "pyarrow":
        seconds, json_bytes = _parse_with_arrow(data_dir)
        return Outcome(seconds, json_bytes=json_bytes)
    shares = [share for core in range(_CORES) if (share := numbers[core::_CORES])]
    if len(shares) == 1:
        seconds, json_bytes = _parse_share(data_dir, shares[0], parser)
        return Outcome(seconds, json_bytes=json_bytes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=context) as processes:
        futures = [processes.submit(_parse_share, data_dir, share, parser) for share in shares]
        found = [future.result() for future in futures]
    return Outcome(max(seconds for seconds, _ in found), json_bytes=sum(size for _, size in found))


def _parse_share(data_dir: str, numbers: Sequence[int], parser: str) -> tuple[float, int]:
    parse_one = _parser(parser)
    clock = Clock()
    json_bytes = 0
    gc.disable()
    for page in pages(data_dir, numbers):
        with clock.running():
            for study in page:
                parse_one(study)
        json_bytes += sum(map(len, page))
    return clock.seconds, json_bytes


def _parser(name: str) -> Callable[[bytes], Any]:
    match name:
        case "orjson":
            import orjson  # noqa: PLC0415 - of the peers' requirements

            parse_one: Callable[[bytes], Any] = orjson.loads
        case "simdjson":
            import simdjson  # noqa: PLC0415 - of the peers' requirements

            document = simdjson.Parser()

            def parse_one(study: bytes) -> None:
                # What it returns must be gone before the next one is parsed.
                document.parse(study)
        case _:
            parse_one = msgspec.json.Decoder().decode
    return parse_one


def _parse_with_arrow(data_dir: str) -> tuple[float, int]:
    options = pj.ParseOptions(
        explicit_schema=study_arrow_schema(), unexpected_field_behavior="ignore"
    )
    clock = Clock()
    json_bytes = 0
    for page in pages(data_dir):
        # One mistyped study makes the reader refuse its whole block.
        typed = [page[index] for index in parse_studies(page).accepted]
        lines = io.BytesIO(b"\n".join(typed))
        block = max(_BLOCK_BYTES, 2 * max(map(len, typed)))
        with clock.running():
            pj.read_json(
                lines, read_options=pj.ReadOptions(block_size=block), parse_options=options
            )
        json_bytes += sum(map(len, typed))
    return clock.seconds, json_bytes


def dump(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """Write the rows of all staging tables to files, as Postgres itself encodes them for COPY."""
    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    with open_postgres(settings_of(Path(server_dir))) as server:
        for shape in staging_shapes():
            statement = sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(
                sql.Identifier(ddl.STAGING, shape.name)
            )
            with (
                connect(server.database(dbname)) as connection,
                connection.cursor() as cursor,
                (folder / shape.name).open("wb") as file,
            ):
                with cursor.copy(statement) as copy:
                    for piece in copy:
                        file.write(piece)
                rows[shape.name] = cursor.rowcount
    return Outcome(0.0, rows=rows)


def copy_rows(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """Copy what `dump` wrote into bare tables of another database."""
    folder = Path(data_dir)
    lanes: list[list[TableShape]] = [[] for _ in range(_CORES)]
    filled = [0] * _CORES
    sizes = {shape.name: (folder / shape.name).stat().st_size for shape in staging_shapes()}
    # The largest first, each to the connection with the least: nothing is left over at the end.
    for shape in sorted(staging_shapes(), key=lambda shape: -sizes[shape.name]):
        lane = filled.index(min(filled))
        lanes[lane].append(shape)
        filled[lane] += sizes[shape.name]
    clock = Clock()
    with open_postgres(settings_of(Path(server_dir))) as server:
        address = server.database(dbname)
        with connect(address) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_SCHEMA)))
        with clock.running(), ThreadPoolExecutor(_CORES) as threads:
            copied = [threads.submit(_copy_lane, address, folder, lane) for lane in lanes]
            rows = {name: count for lane in copied for name, count in lane.result().items()}
    return Outcome(clock.seconds, rows=rows)


def _copy_lane(
    address: PostgresAddress, folder: Path, shapes: Sequence[TableShape]
) -> dict[str, int]:
    rows = {}
    with connect(address) as connection, connection.transaction():
        for shape in shapes:
            connection.execute(ddl.create_table(shape, _SCHEMA))
            with connection.cursor() as cursor, (folder / shape.name).open("rb") as file:
                with cursor.copy(ddl.copy_rows(shape, _SCHEMA, freeze=True)) as copy:
                    while piece := file.read(_CHUNK_BYTES):
                        copy.write(piece)
                rows[shape.name] = cursor.rowcount
    return rows
