"""Addresses of ClickHouse, entries in the file of sinks, and events: what can be used, and what is said of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.clickhouse import (
    ClickHouseAddress,
    ClickHouseAddressError,
    ClickHouseUnavailableError,
    MartsSource,
)
from ctg_assets.feed import consuming
from ctg_assets.feed.clickhouse import changed_study
from ctg_assets.feed.clickhouse_progress import clickhouse_state
from ctg_assets.feed.config import ClickHouseSettings, read_notified, read_sinks
from ctg_assets.feed.consuming import Consumed
from ctg_assets.feed.errors import EventsRefusedError, SinkFileError
from ctg_assets.feed.events import Message, UndoneChange
from ctg_assets.feed.history_events import EVENT_NAMES
from ctg_assets.load.clickhouse.tables import declaration, view
from ctg_assets_tests.clickhouse.following import SHAPES
from ctg_assets_tests.feed.helpers import event

SINK = '[[sink]]\nname = "c"\ntype = "clickhouse"\nurl = "clickhouse://c.example"\n'


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("clickhouse://c", ("clickhouse", "ctg", "c", 8123, "default", None)),
        ("clickhouses://me@c/trials", ("clickhouses", "trials", "c", 8443, "me", None)),
        ("clickhouse://a%40b@c:1/x", ("clickhouse", "x", "c", 1, "a@b", None)),
        ("chdb:///srv/a%20b", ("chdb", "ctg", "", 0, "", Path("/srv/a b"))),
        ("chdb:///srv/c?database=x", ("chdb", "x", "", 0, "", Path("/srv/c"))),
    ],
)
def test_addresses(url: str, expected: tuple[object, ...]) -> None:
    """Servers and folders, with what is not said by default."""
    found = ClickHouseAddress.parse(url)
    told = (found.scheme, found.database, found.host, found.port, found.user, found.folder)
    assert told == expected


@pytest.mark.parametrize(
    "url", ["http://c", "clickhouse:///x", "chdb://c/x", "chdb:///", "clickhouse://c:x", "clickhouse://c?a=b"]
)  # fmt: skip
def test_unusable_addresses(url: str) -> None:
    """What cannot be used is said with what can."""
    with pytest.raises(ClickHouseAddressError, match=r"clickhouse://user@|no URL"):
        ClickHouseAddress.parse(url)


def test_any_folder_has_an_address() -> None:
    """What begins queries, fragments or escapes in URLs is part of a folder's name."""
    folder = Path("/srv/a b/100%20 #1?x=y")
    assert ClickHouseAddress.parse(ClickHouseAddress.embedded_url(folder)).folder == folder


def test_notes_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Half a copy of the notes is no traceback in `feed status`, but says when there will be another."""
    (tmp_path / "engine.ctg.columns.json").write_text('{"state": {"sink"')
    address = ClickHouseAddress.parse(ClickHouseAddress.embedded_url(tmp_path / "engine"))
    with pytest.raises(ClickHouseUnavailableError, match="the next delivery writes it anew"):
        clickhouse_state(address, None, "columns", 1)


def test_passwords_are_not_shown() -> None:
    """An address with a password is refused without showing it."""
    with pytest.raises(ClickHouseAddressError, match="environment variable") as found:
        ClickHouseAddress.parse("clickhouse://u:hunter22@c")
    assert "hunter22" not in str(found.value)


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sinks.toml"
    file.write_text(text)
    return file


def test_the_file_of_sinks(tmp_path: Path) -> None:
    """A ClickHouse is a sink without filters, and nobody to be told of failures."""
    [sink] = read_sinks(_file(tmp_path, SINK), EVENT_NAMES)
    assert isinstance(sink, ClickHouseSettings)
    assert (sink.batch_size, sink.secret_env) == (2000, None)
    filtered = _file(tmp_path, SINK + '[sink.filters]\ncountries = ["Chad"]\n')
    with pytest.raises(SinkFileError, match="remove filters"):
        read_sinks(filtered, EVENT_NAMES)
    with pytest.raises(SinkFileError, match=r'write type = "webhook" or type = "amqp"$'):
        read_notified(_file(tmp_path, SINK.replace("[[sink]]", "[[notify]]")))


def test_what_an_event_says() -> None:
    """The study, the number of the change, and of an undoing the number of what it takes back."""
    undoing = event(7, kind="undone", undoes=UndoneChange(change_seq=3, kind="update"))
    found = changed_study(Message.of(undoing).body)
    assert (found.nct_id, found.change_seq, found.undoes) == ("NCT00000007", 7, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"nct_id": "NCT00000001"}', b'{"nct_id": "x", "change_seq": 1}',
     b'{"nct_id": "NCT00000001\'", "change_seq": 1}', b'{"nct_id": "NCT00000001", "change_seq": 0}'],
)  # fmt: skip
def test_what_is_no_event(body: bytes) -> None:
    """It is refused for good, with what is wrong with it."""
    with pytest.raises(EventsRefusedError) as found:
        changed_study(body)
    assert found.value.for_good


def test_declarations() -> None:
    """A table has versions of rows, by study first; people read the view of the newest."""
    told = declaration(SHAPES["study_versions"], "ctg_rows", "study_versions")
    assert "ReplacingMergeTree(row_change_seq, row_deleted)" in told
    assert "ORDER BY (`nct_id`, `valid_from`)" in told
    assert "`valid_to` Nullable(DateTime64(6, 'UTC'))" in told
    shown = view(SHAPES["study_versions"], "ctg", "ctg_rows")
    assert "FROM `ctg_rows`.`study_versions` FINAL" in shown
    assert "row_" not in shown.partition("FROM")[0]


def test_a_consumer_brings_marts_where_there_is_a_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """`feed consume` hands on where they are; with CTG_WAREHOUSE=none there are none."""
    given: list[MartsSource | None] = []

    def consume(*_: object, marts: MartsSource | None, **__: object) -> Consumed:
        given.append(marts)
        return Consumed()

    monkeypatch.setattr(consuming, "consume", consume)
    arguments = ["feed", "consume", "--from", "amqp://b.example", "--queue", "q", "--embedded"]
    for warehouse in ("postgres", "none"):
        done = CliRunner().invoke(app, arguments, env={"CTG_WAREHOUSE": warehouse})
        assert done.exit_code == 0, done.output
    with_postgres, without = given
    assert with_postgres is not None
    assert without is None
