"""How the stand-in registry says no."""

from __future__ import annotations


class ApiError(Exception):
    """A refusal as the registry words it: an HTTP status and a plain text.

    Texts follow recorded answers of the real API where one was found.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
