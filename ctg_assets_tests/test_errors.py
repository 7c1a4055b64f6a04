"""Errors of what we depend on say whether trying again later helps, since the sensor goes by that alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ctg_assets.aact.request import StagingMovedError
from ctg_assets.errors import PermanentError, TransientError
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.registry.errors import RegistryError


def _below(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _below(kind)


@pytest.mark.parametrize("root", [RegistryError, WarehouseError])
def test_every_failure_is_transient_or_permanent(root: type[Exception]) -> None:
    """Each kind of failure of the registry and the database, wherever it is defined, is one of the two."""
    kinds = {*_below(root)}
    assert len(kinds) >= 5
    assert StagingMovedError in {*_below(WarehouseError)}
    assert [
        kind.__name__
        for kind in kinds
        if issubclass(kind, TransientError) == issubclass(kind, PermanentError)
    ] == []
