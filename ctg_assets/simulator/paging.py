"""Pages: their size, and the opaque tokens that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from math import gcd
from typing import overload

from ctg_assets.simulator.errors import ApiError

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 1000
_INT32_MAX = 2**31 - 1

_OFFSET_BYTES = 4
_SEAL_BYTES = 16


def page_size(text: str | None) -> int:
    """The number of studies a page may hold for this value of `pageSize` (None: parameter absent).

    Raises ApiError 400 for what is no non-negative 32-bit integer.
    """
    if text is None:
        return DEFAULT_PAGE_SIZE
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) > _INT32_MAX:
        raise ApiError(400, "Parameter `pageSize` has incorrect format")
    return min(int(text), MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def page_token(offset: int, binding: bytes) -> str:
    """The token of the page that begins at this offset; the same for the same arguments, always.

    `binding` says within which query and data version the token holds.
    """
    place = offset.to_bytes(_OFFSET_BYTES, "big")
    seal = blake2b(place + binding, digest_size=_SEAL_BYTES).digest()
    hidden = bytes(a ^ b for a, b in zip(place, seal, strict=False))
    return base64.urlsafe_b64encode(hidden + seal).rstrip(b"=").decode("ascii")


def page_offset(token: str, binding: bytes) -> int:
    """The offset at which a token's page begins; raises ApiError 400 unless it holds for `binding`.

    Stricter than the real API is said to be: there, a token sent with another query was seen to
    select that query's page at the old offset. A client that does so is wrong, so here it fails.
    """
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        sealed = b""
    seal = sealed[_OFFSET_BYTES:]
    offset = int.from_bytes(
        bytes(a ^ b for a, b in zip(sealed[:_OFFSET_BYTES], seal, strict=False)), "big"
    )
    if not token.isascii() or page_token(offset, binding) != token:
        raise ApiError(400, "Parameter `pageToken` is invalid for this query and data version")
    return offset


class DefaultOrder(Sequence[int]):
    """A fixed order of `0 … size - 1` that looks unsorted, computed place by place.

    The registry's default order is by nothing a client could rely on, so neither is this one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Steps near the golden ratio scatter neighbours furthest; coprime steps visit every place.
        start = int(size * 0.618034) or 1
        self._step = next(step for step in count(start) if gcd(step, size) == 1)
        self._inverse = pow(self._step, -1, size) if size > 1 else 0

    def __len__(self) -> int:
        """How many studies are ordered."""
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        """The study at a place, or those of a slice."""
        if isinstance(place, slice):
            return [self._at(at) for at in range(*place.indices(self._size))]
        return self._at(range(self._size)[place])

    def _at(self, place: int) -> int:
        return (place + 1) * self._step % self._size

    def place_of(self, study: int) -> int:
        """The place at which a study stands."""
        return (study * self._inverse - 1) % self._size
