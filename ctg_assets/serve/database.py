"""The database that the service looks at, and keeps up if it is the embedded one."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from ctg_assets.errors import CtgAssetsError
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.embedded import is_running
from ctg_assets.postgres.server import open_postgres
from ctg_assets.serve.reading import NotReadError
from ctg_assets.settings import Settings

_log = logging.getLogger(__name__)

# How often the embedded server is looked after, and how soon one that is not to be had is tried again.
_LOOK_SECONDS = 2.0

# A server that nobody else uses is stopped at the end, with a checkpoint.
_END_SECONDS = 60.0


class KeptDatabase:
    """The database of the settings, opened by a thread of its own, again if it goes away.

    The embedded server is started unless it runs, and stays up as long as this. It does not hold up who starts
    or asks the service, for starting one takes seconds, and after a crash longer.
    """

    def __init__(self, settings: Settings) -> None:
        """Of these settings; nothing is opened yet."""
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="database", daemon=True)
        self._address: PostgresAddress | None = None
        self._problem = "the database is being opened"

    def __enter__(self) -> Self:
        if self._settings.has_warehouse:
            self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._settings.has_warehouse and self._settings.postgres_url is None:
            self._thread.join(_END_SECONDS)

    def address(self) -> PostgresAddress:
        """Where the database is; raises NotReadError while that cannot be told."""
        address = self._address
        if address is None:
            raise NotReadError(self._problem)
        return address

    def _keep(self) -> None:
        while not self._stopped.is_set():
            try:
                with open_postgres(self._settings) as address:
                    self._address = address
                    self._hold(address)
            except CtgAssetsError as error:
                problem = str(error)
                if problem != self._problem:
                    _log.warning("%s", problem)
                self._problem = problem
            finally:
                self._address = None
            self._stopped.wait(_LOOK_SECONDS)

    def _hold(self, address: PostgresAddress) -> None:
        """Return when the service ends, or the embedded server has."""
        while not self._stopped.wait(_LOOK_SECONDS):
            if address.embedded and not is_running(self._settings):
                self._problem = "the embedded Postgres is gone and is being started again"
                _log.warning("%s", self._problem)
                return
