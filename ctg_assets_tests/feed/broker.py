"""A RabbitMQ server of the tests' own: on loopback, in a temporary folder, to be killed at will.

Nothing of the machine's own RabbitMQ is touched: node name, ports, cookie, data and the port mapper
(epmd) are the tests'.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from ctg_assets.feed.config import AmqpSettings, FilterSettings
from ctg_assets_tests.feed.helpers import PATIENCE_SECONDS
from ctg_assets_tests.orchestration.workplace import wait_until

# Debian's program itself; its wrapper on PATH changes user and folder.
_DEBIANS = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

LARGEST_MESSAGE = 100_000
"""In bytes; the broker closes the channel over larger ones."""

_CONFIGURATION = """
log.console = true
log.file = false
"""


def unused_ports(count: int) -> list[int]:
    """Ports where nothing listens."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(listener.getsockname()[1]) for listener in listeners]


def _program() -> str:
    """The server's program; skips the test where RabbitMQ is not installed."""
    found = str(_DEBIANS) if _DEBIANS.exists() else shutil.which("rabbitmq-server")
    if found is None or shutil.which("epmd") is None:
        pytest.skip("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    return found


class Broker:
    """A RabbitMQ node and its data."""

    def __init__(self, folder: Path, largest_message: int | None = LARGEST_MESSAGE) -> None:
        """Lay out the node's folder; nothing runs yet."""
        self._folder = folder
        self._program = _program()
        self.port, self._mapper_port, distribution_port = unused_ports(3)
        limit = "" if largest_message is None else f"max_message_size = {largest_message}\n"
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n{limit}{_CONFIGURATION}"
        )
        (folder / "enabled_plugins").write_text("[].\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            # Whence the cookie is taken, and where it is made.
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "ctg-assets-tests@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._mapper: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"amqp://guest@127.0.0.1:{self.port}/%2F"

    def start(self) -> None:
        """Start the node on what data there are, and wait until it takes connections."""
        if self._mapper is None:
            self._mapper = subprocess.Popen(["epmd"], env=self._environment)
        with (self._folder / "output").open("ab") as output:
            self._server = subprocess.Popen(
                [self._program],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until("RabbitMQ takes connections", self._is_up, seconds=2 * PATIENCE_SECONDS)

    def kill(self) -> None:
        """`kill -9` the node with all it started."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(PATIENCE_SECONDS)
            self._server = None

    def close(self) -> None:
        """Leave nothing running."""
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait(PATIENCE_SECONDS)

    def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl`."""
        program = Path(self._program).with_name("rabbitmqctl")
        subprocess.run(
            [program, *arguments], env=self._environment, capture_output=True, check=True
        )

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel of the test's own."""
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port))
        try:
            yield connection.channel()
        finally:
            # A test may have killed the broker meanwhile.
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()

    def drain(self, queue: str) -> list[dict[str, Any]]:
        """Take all messages out of a queue; of each, the event with what is around it."""
        found: list[dict[str, Any]] = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return found
                found.append({**json.loads(body), "properties": properties})

    def _is_up(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self._folder / "output").read_text()[-2000:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


@contextlib.contextmanager
def running_broker(largest_message: int | None = LARGEST_MESSAGE) -> Iterator[Broker]:
    """A broker that runs while the block does, with RabbitMQ's own limit on messages if None is given."""
    with tempfile.TemporaryDirectory(prefix="ctg-rabbitmq-") as name:
        broker = Broker(Path(name), largest_message)
        try:
            broker.start()
            yield broker
        finally:
            broker.close()


def amqp_settings(url: str, **given: Any) -> AmqpSettings:
    """A queue that wants everything from the beginning, but for what is given."""
    return AmqpSettings(
        **{
            "name": "queue",
            "type": "amqp",
            "url": url,
            "start": "beginning",
            "batch_size": 50,
            "attempts": 2,
            "timeout_seconds": 20.0,
            "filters": FilterSettings(),
            **({} if "exchange" in given else {"queue": "changes"}),
            **given,
        }
    )
