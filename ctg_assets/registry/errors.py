"""What can go wrong between us and the registry, or another API that is asked as it is."""

from __future__ import annotations

from ctg_assets.errors import CtgAssetsError, PermanentError, TransientError


class RegistryError(CtgAssetsError):
    """The API could not be used; the message says what was tried, what was found and what to do."""


class PermanentRegistryError(RegistryError, PermanentError):
    """Asking again will not help: a refused or wrong request, or a URL that is not the API's."""


class TransientRegistryError(RegistryError, TransientError):
    """Asking again later may help: overload, an outage, a broken connection, a mangled answer.

    `retry_after` is the number of seconds the registry asked us to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadRequestError(PermanentRegistryError):
    """The registry answered 400: a parameter, expression or token it does not accept."""


class NotFoundError(PermanentRegistryError):
    """The API answered 404: there is nothing under this address."""


class PageTokenRejectedError(PermanentRegistryError):
    """The page token is no longer accepted: it expired, or the registry's data version moved."""


class RequestStoppedError(RegistryError, TransientError):
    """Nobody waits for the answer any more, so it was not asked for."""


class RateLimitRecordError(PermanentRegistryError):
    """The record of what was sent cannot be used, and without it no request may be sent."""


class RateLimitUnavailableError(TransientRegistryError):
    """For now nobody can say whether one more request may be sent, so none is."""
