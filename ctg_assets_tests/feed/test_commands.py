"""`ctg-assets feed`: what a person sees and gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ctg_assets.cli.app import app
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake, open_lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import ENV_PREFIX, load_settings
from ctg_assets_tests.feed.helpers import SECRET, SECRET_ENV, Receiver, Request, receiver
from ctg_assets_tests.support.made_lakes import extraction, study


class Desk:
    """A data folder with three changes, a file of sinks, and the commands."""

    def __init__(self, folder: Path, address: PostgresAddress) -> None:
        """Keep everything in `folder`, and positions at `address`."""
        self.file = folder / "sinks.toml"
        self.environment = {
            **{name: "" for name in os.environ if name.startswith(ENV_PREFIX)},
            "CTG_DATA_DIR": str(folder / "data"),
            "CTG_POSTGRES_URL": address.url,
            "CTG_FEED_FILE": str(self.file),
            SECRET_ENV: SECRET,
            "COLUMNS": "200",
        }
        self.lake: Lake = open_lake(load_settings(data_dir=folder / "data"))
        plan = extraction(
            self.lake.storage,
            [[study(f"NCT{number:08d}") for number in (1, 2, 3)]],
            expected_studies=3,
        )
        Recorder(self.lake.storage, self.lake.scratch).record(plan.extraction_id)

    def sinks(self, **urls: str) -> None:
        """Write the file of sinks: webhooks of these names."""
        self.file.write_text(
            "".join(
                f'[[sink]]\nname = "{name}"\ntype = "webhook"\nurl = "{url}"\n'
                f'secret_env = "{SECRET_ENV}"\nstart = "beginning"\nattempts = 1\n'
                for name, url in urls.items()
            )
        )

    def feed(self, *arguments: str) -> Result:
        """Run a command of the feed."""
        return CliRunner().invoke(app, ["feed", *arguments], env=self.environment)


@pytest.fixture
def desk(tmp_path: Path, address: PostgresAddress) -> Desk:
    """Somebody's place of work."""
    return Desk(tmp_path, address)


def picky(request: Request) -> int:
    """Call the second study wrong."""
    return 422 if 2 in request.numbers else 200


def numbers(there: Receiver) -> list[list[int]]:
    """The events of all requests."""
    return [request.numbers for request in there.requests]


def test_run_status_and_replay(desk: Desk) -> None:
    """Dead letters are shown with reasons, sent again when asked for, and gone when taken."""
    refusing = True
    with receiver(lambda request: picky(request) if refusing else 200) as there:
        desk.sinks(desk=there.url)
        assert desk.feed("run", "--once").exit_code == 0
        shown = desk.feed("status")
        assert shown.exit_code == 0
        row = shown.output.splitlines()[1].split()
        assert row[:6] == ["desk", "webhook", "3", "0", "2", "1"]
        assert "dead letter: change 2 of NCT00000002" in shown.output
        assert "answered 422" in shown.output
        refusing = False
        asked = desk.feed("replay", "desk", "--dead-letters")
        assert "will be sent again: 1" in asked.output
        assert "to be sent again" in desk.feed("status").output
        assert desk.feed("run", "--once").exit_code == 0
        assert numbers(there)[-1] == [2]
        assert "dead letter:" not in desk.feed("status").output
        asked = desk.feed("replay", "desk", "--from-seq", "2")
        assert "changes 2 to 3" in asked.output
        assert desk.feed("run", "--once").exit_code == 0
        assert numbers(there)[-1] == [2, 3]


def test_what_nobody_wants_is_discarded(desk: Desk) -> None:
    """Dead letters of one sink are forgotten, are sent no more, and those of another stay."""
    with receiver(picky) as there, receiver(picky) as other:
        desk.sinks(desk=there.url, other=other.url)
        desk.feed("run", "--once")
        asked = desk.feed("discard", "desk")
        assert (asked.exit_code, "discarded: 1" in asked.output) == (0, True)
        assert "discarded: 0" in desk.feed("discard", "desk").output
        shown = desk.feed("status").output
        assert ("desk: dead letter:" in shown, "other: dead letter:" in shown) == (False, True)
        sent = len(there.requests)
        assert "will be sent again: 0" in desk.feed("replay", "desk", "--dead-letters").output
        assert desk.feed("run", "--once").exit_code == 0
        assert len(there.requests) == sent


def test_what_could_not_be_delivered_is_an_exit_code(desk: Desk) -> None:
    """A sink that is down is named with the reason, in status too; the other has everything."""
    with receiver() as there, receiver(lambda _: 503) as down:
        desk.sinks(there=there.url, down=down.url)
        done = desk.feed("run", "--once")
    assert done.exit_code == 1
    assert "down: " in done.stderr
    assert "answered 503" in done.stderr
    assert numbers(there) == [[1, 2, 3]]
    shown = " ".join(desk.feed("status").output.split())
    assert "down webhook 0 3 0 0" in shown
    assert "down: held up since" in shown
    assert "answered 503" in shown
    assert "no process delivers to it" in shown


def test_one_sink_can_be_chosen(desk: Desk) -> None:
    """`--sink` leaves the others alone."""
    with receiver() as one, receiver() as other:
        desk.sinks(one=one.url, other=other.url)
        assert desk.feed("run", "--once", "--sink", "one").exit_code == 0
        assert (len(one.requests), len(other.requests)) == (1, 0)
        assert "never delivered to" in desk.feed("status").output
        desk.sinks(other=other.url)
        assert "not in the file" in desk.feed("status").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--sink", "nobody"], "no sink 'nobody'"),
        (["replay", "nobody", "--dead-letters"], "there are desk"),
        (["discard", "nobody"], "there are desk"),
    ],
)
def test_unknown_sinks_are_refused(desk: Desk, arguments: list[str], said: str) -> None:
    """A name that the file does not have is refused with those it has."""
    desk.sinks(desk="http://127.0.0.1:9/")
    done = desk.feed(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_replay_that_would_skip_is_refused(desk: Desk) -> None:
    """The number is refused with those that can be given, and one of both options is needed."""
    with receiver() as there:
        desk.sinks(desk=there.url)
        desk.feed("run", "--once")
    refused = desk.feed("replay", "desk", "--from-seq", "9")
    assert (refused.exit_code, "from 1 to 4" in refused.stderr) == (1, True)
    assert desk.feed("replay", "desk").exit_code == 2
    assert desk.feed("replay", "desk", "--from-seq", "1", "--dead-letters").exit_code == 2


def test_no_file_is_told(desk: Desk) -> None:
    """Without the setting, or the secret, nothing is begun, and it says what to set."""
    desk.environment["CTG_FEED_FILE"] = ""
    done = desk.feed("run", "--once")
    assert done.exit_code == 2
    assert "set CTG_FEED_FILE" in done.stderr
    desk.environment["CTG_FEED_FILE"] = str(desk.file)
    desk.environment[SECRET_ENV] = ""
    desk.sinks(desk="http://127.0.0.1:9/")
    done = desk.feed("run", "--once")
    assert done.exit_code == 2
    assert SECRET_ENV in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(desk: Desk, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end a running feed in good order, with what was confirmed settled."""
    arrived = threading.Event()

    def answer(_: Request) -> int:
        arrived.set()
        return 200

    with receiver(answer) as there:
        desk.sinks(desk=there.url)
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from ctg_assets.cli.app import main; main()",
                "feed",
                "run",
            ],
            env={**os.environ, **desk.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                assert arrived.wait(60)
                process.send_signal(number)
                _, said = process.communicate(timeout=60)
            finally:
                process.kill()
    assert process.returncode == 0, said
    assert said == b"delivering changes as they come; stop with Ctrl-C\n"
    assert "desk  webhook          3       0          3" in desk.feed("status").output
