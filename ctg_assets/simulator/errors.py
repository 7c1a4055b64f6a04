"""How the stand-in registry says no.

Belongs here: the refusal that every module of the simulator raises. Does not belong here: when to refuse.
"""

from __future__ import annotations


class ApiError(Exception):
    """A refusal as the registry words it: an HTTP status and a plain text.

    Texts follow recorded answers of the real API where one was found.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
