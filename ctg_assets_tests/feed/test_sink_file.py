"""The file of sinks: what it may say, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctg_assets.feed.config import (
    AmqpSettings,
    FilterSettings,
    SinkSettings,
    WebhookSettings,
    read_sinks,
    secret_of,
)
from ctg_assets.feed.errors import SinkFileError
from ctg_assets.feed.history_events import EVENT_NAMES

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "feed.md"
HOOK = '[[sink]]\nname = "hook"\ntype = "webhook"\nurl = "https://x.example/"\nsecret_env = "S"\n'
QUEUE = '[[sink]]\nname = "queue"\ntype = "amqp"\nurl = "amqp://x.example/"\n'


def read(tmp_path: Path, text: str) -> list[SinkSettings]:
    """The sinks of a file with this text."""
    file = tmp_path / "sinks.toml"
    file.write_text(text, encoding="utf-8")
    return read_sinks(file, EVENT_NAMES)


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a file with this text."""
    with pytest.raises(SinkFileError) as found:
        read(tmp_path, text)
    assert str(tmp_path / "sinks.toml") in str(found.value)
    return str(found.value)


def test_a_file_names_sinks_in_order(tmp_path: Path) -> None:
    """Webhooks and queues, with what they do not say by default."""
    filters = '[sink.filters]\ncountries = ["Chad"]\nnct_ids = ["nct00000001"]\nevents = ["update", "site_*"]\n'
    hook, queue, exchange = read(
        tmp_path,
        HOOK
        + filters
        + QUEUE
        + 'queue = "changes"\nbatch_size = 500\nstart = "beginning"\ntimeout_seconds = 5\n'
        + QUEUE.replace('"queue"', '"exchange"')
        + 'exchange = "e"\nrouting_key = ""\nsecret_env = "P"\n',
    )
    assert isinstance(hook, WebhookSettings)
    assert (hook.name, hook.batch_size, hook.start, hook.secret_env) == ("hook", 100, "newest", "S")
    assert hook.filters == FilterSettings(
        countries=("Chad",), nct_ids=("NCT00000001",), events=("update", "site_*")
    )
    assert isinstance(queue, AmqpSettings)
    assert (queue.queue, queue.batch_size, queue.start) == ("changes", 500, "beginning")
    assert queue.filters == FilterSettings()
    assert isinstance(exchange, AmqpSettings)
    assert (exchange.exchange, exchange.routing_key) == ("e", "")


def test_the_documented_file_can_be_used(tmp_path: Path) -> None:
    """The example of docs/feed.md is a file of sinks."""
    example = DOCUMENTATION.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    assert len(read(tmp_path, example)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["there is no [[sink]]"]),
        ("[sink]\n", ["sink"]),
        ("sink = 3\n", ["sink"]),
        ("[[sink]\n", ["is not TOML", "line 1"]),
        (HOOK + "[other]\n", ["other", "[[sink]] and [[notify]] tables"]),
        ('[[sink]]\nname = "a"\n', ["sink 'a'", 'type = "webhook" or type = "amqp"']),
        ('[[sink]]\nname = "a"\ntype = "email"\n', ["sink 'a'", 'type = "webhook"']),
        (
            '[[sink]]\ntype = "webhook"\n',
            ["sink number 1: name", "sink number 1: url", "secret_env"],
        ),
        (HOOK.replace("hook", "a hook!", 1), ["'a hook!'", "letters, digits"]),
        (HOOK + "batch_size = 0\n", ["sink 'hook': batch_size", "found 0", "events sent"]),
        (HOOK + 'batch_size = "9"\n', ["batch_size", "found '9'"]),
        (HOOK + 'start = "end"\n', ["start", "found 'end'", "'beginning'"]),
        (HOOK + "batchsize = 9\n", ["batchsize: no such entry", "batch_size"]),
        (
            HOOK + '[sink.filters]\ncountry = ["X"]\n',
            ["filters.country: no such entry", "countries"],
        ),
        (HOOK + '[sink.filters]\ncountries = "X"\n', ["filters.countries"]),
        (HOOK + '[sink.filters]\ncountries = [" "]\n', ["filters.countries.0", "empty text"]),
        (
            HOOK + '[sink.filters]\nnct_ids = ["NCT1"]\n',
            ["filters.nct_ids.0", "eight digits", "NCT1"],
        ),
        (
            HOOK + '[sink.filters]\nevents = ["stauts_changed"]\n',
            ["did you mean 'status_changed'?"],
        ),
        (
            HOOK + '[sink.filters]\nevents = ["xyz"]\n',
            ["no event 'xyz'", "insert", "results_posted"],
        ),
        (HOOK.replace("https", "ftp"), ["url", "https:// or http://"]),
        (HOOK.replace("//x.example", ""), ["url", "https:// or http://"]),
        (HOOK.replace("example/", "example:port/"), ["url"]),
        (HOOK + HOOK, ["'hook'", "given twice"]),
        (QUEUE, ["sink 'queue'", "either queue, or exchange and routing_key"]),
        (QUEUE + 'queue = "a"\nexchange = "b"\nrouting_key = "c"\n', ["either queue"]),
        (QUEUE + 'exchange = "b"\n', ["go together"]),
        (QUEUE.replace("amqp:", "http:") + 'queue = "a"\n', ["amqps:// or amqp://"]),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, text: str, said: list[str]) -> None:
    """Which sink, which entry, what was found, and what belongs there."""
    found = refusal(tmp_path, text)
    for words in said:
        assert words in found, found


@pytest.mark.parametrize(
    "text",
    [
        HOOK.replace("x.example", "me:hunter2@x.example"),
        QUEUE.replace("x.example", "me:hunter2@x.example") + 'queue = "a"\n',
    ],
)
def test_passwords_do_not_belong_in_the_file(tmp_path: Path, text: str) -> None:
    """A password in a URL is refused with where to put it, and not repeated."""
    found = refusal(tmp_path, text)
    assert "secret_env" in found
    assert "hunter2" not in found


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """A person does not have to mend one thing after the other."""
    found = refusal(tmp_path, HOOK + "batch_size = 0\nattempts = 0\n" + QUEUE)
    for words in ("batch_size", "attempts", "either queue"):
        assert words in found


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The setting that names it is named."""
    with pytest.raises(SinkFileError, match=r"sinks\.toml.*No such file.*CTG_FEED_FILE"):
        read_sinks(tmp_path / "sinks.toml", EVENT_NAMES)


def test_secrets_come_from_the_environment(tmp_path: Path) -> None:
    """The variable that the file names holds the secret; unset or empty it is asked for."""
    hook, queue = read(tmp_path, HOOK + QUEUE + 'queue = "a"\n')
    assert secret_of(hook, {"S": "hunter2"}) == "hunter2"
    assert secret_of(queue, {}) is None
    for environment in ({}, {"S": ""}):
        with pytest.raises(SinkFileError, match=r"sink 'hook'.*variable S"):
            secret_of(hook, environment)
