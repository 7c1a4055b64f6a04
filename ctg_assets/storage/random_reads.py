"""What files that are read anywhere have in common, whatever brings their bytes."""

from __future__ import annotations

import io


class RandomReads(io.RawIOBase):
    """A file of a known size, and where in it who reads is."""

    def __init__(self, size: int) -> None:
        """Begin at the start of so many bytes."""
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where who reads is, in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; returns it, in bytes from the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position
