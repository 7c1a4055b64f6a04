"""What can go wrong in the warehouse, by what a caller should do about it."""

from __future__ import annotations

from ctg_assets.errors import CtgAssetsError, PermanentError, TransientError


class WarehouseError(CtgAssetsError):
    """Base of all warehouse failures; the message says what was tried, found and what to do."""


class TransientWarehouseError(WarehouseError, TransientError):
    """The same call may succeed later without anybody changing anything but the load on the box."""


class PermanentWarehouseError(WarehouseError, PermanentError):
    """The same call will fail again until data, settings or the database are changed."""


class ServerUnavailableError(TransientWarehouseError):
    """No Postgres answers, or it went away in the middle of the work."""


class ServerSetupError(PermanentWarehouseError):
    """The server cannot be used as configured: address, credentials, data folder or version."""


class NoWarehouseError(ServerSetupError):
    """The settings want no database."""


class WholeLoadNeededError(PermanentWarehouseError):
    """The tables cannot be changed in place; nothing was touched. Loading them as a whole helps."""


class StaleBaseError(WholeLoadNeededError):
    """The tables do not hold what the changes were computed from."""


class LoadBusyError(TransientWarehouseError):
    """Another load is running, or readers kept the tables locked for the whole waiting time."""


class LoadRejectedError(PermanentWarehouseError):
    """The database refused the new rows or tables; the old state is untouched."""


class ForeignObjectError(PermanentWarehouseError):
    """Somebody else's schema, table or view has the name of one of ours; it was left alone."""
