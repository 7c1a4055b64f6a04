"""A broker for the tests of the feed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from ctg_assets_tests.feed.broker import Broker, running_broker

_numbers = count(1)


@pytest.fixture(scope="package")
def broker() -> Iterator[Broker]:
    """A RabbitMQ server; skips where it is not installed."""
    with running_broker() as running:
        yield running


@pytest.fixture
def queue() -> str:
    """The name of a queue of the test's own."""
    return f"queue {next(_numbers)}"
