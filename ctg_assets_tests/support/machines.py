"""Machines that share a lake in an object store: refreshes in processes that know nothing of each other."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

from ctg_assets.errors import CtgAssetsError
from ctg_assets.refresh import planner
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.settings import Settings
from ctg_assets.storage import leases
from ctg_assets.storage.object_client import ObjectClient
from ctg_assets.storage.objects import ObjectBackend
from ctg_assets_tests.support.following import refresh
from ctg_assets_tests.support.processes import forked

# A dead machine is waited for in every test with kills.
_LEASE_TIME = timedelta(seconds=2)
_PAUSE_SECONDS = 0.3
# A machine waits for the other's leases to end, and for all that it does.
_PATIENCE_SECONDS = 600.0
_MOST_TRIES = 1000

_CHANGES = ("put", "put_large", "copy", "delete")


def refresh_on_machine(
    machine: str, settings: Settings, environment: Mapping[str, str], die_at: int | None = None
) -> bool:
    """Bring the lake up to date in a process of another machine; False if it was killed.

    `die_at` counts the moments right before and after each change of an object, at one of which it is. Waits
    while others are at work.
    """
    exit_code = forked(
        _refresh, machine, settings, dict(environment), die_at, patience=_PATIENCE_SECONDS
    )
    assert exit_code in {0, -signal.SIGKILL}
    return exit_code == 0


def _refresh(
    machine: str, settings: Settings, environment: dict[str, str], die_at: int | None
) -> None:
    os.environ.update(environment)
    with ExitStack() as stack:
        # Only what ran on the same machine is known to be dead.
        stack.enter_context(patch.object(leases, "_kernel", lambda: machine))
        connect = partial(ObjectBackend.connect, lease_time=_LEASE_TIME)
        stack.enter_context(patch.object(ObjectBackend, "connect", connect))
        stack.enter_context(patch.object(planner, "actual_state", lambda _: WarehouseState()))
        stack.enter_context(patch.object(planner, "desired_state", lambda *_: WarehouseState()))
        if die_at is not None:
            left = itertools.count(die_at, -1)
            for name in _CHANGES:
                stack.enter_context(patch.object(ObjectClient, name, _mortal(name, left)))
        for _ in range(_MOST_TRIES):
            try:
                refresh(settings)
            except CtgAssetsError:
                # The other is at work, or has removed what was being read: what stays wrong is seen in the end.
                threading.Event().wait(_PAUSE_SECONDS)
            else:
                return
        message = f"{machine} is not done after {_MOST_TRIES} tries"
        raise AssertionError(message)


def _mortal(name: str, left: itertools.count[int]) -> Callable[..., Any]:
    method = getattr(ObjectClient, name)

    def moment() -> None:
        if next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def changed(client: ObjectClient, *arguments: Any) -> Any:
        moment()
        result = method(client, *arguments)
        moment()
        return result

    return changed
