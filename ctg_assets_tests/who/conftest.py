"""A stand-in for WHO, and the data folder and database of who refreshes from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import running_application
from ctg_assets.simulator.who import GHO_PREFIX, XMART_PREFIX, WhoFault, WhoSimulator
from ctg_assets.who.indicators import DialectName, Indicator, TargetTable
from ctg_assets.who.refreshing import WhoSource


@dataclass(frozen=True)
class Who:
    """WHO as it is played, and how it is asked."""

    simulator: WhoSimulator
    url: str
    folder: Path

    def settings(self, **others: Any) -> Settings:
        """Settings that ask this WHO, once and at any rate."""
        return load_settings(
            **{
                "data_dir": self.folder,
                "who_gho_url": self.url + GHO_PREFIX,
                "who_xmart_url": self.url + XMART_PREFIX,
                "who_requests_per_minute": 10_000,
                "retry_seconds": 0,
                **others,
            }
        )

    @property
    def source(self) -> WhoSource:
        """The data folder's WHO data."""
        return WhoSource(self.settings())

    def break_with(self, fault: WhoFault | None) -> None:
        """Let every entity set have this fault, or none."""
        self.simulator.faults.clear()
        if fault is not None:
            self.simulator.faults |= dict.fromkeys(self.simulator.entities, fault)


@pytest.fixture(scope="session")
def played_who() -> Iterator[tuple[WhoSimulator, str]]:
    """A WHO for all tests, which one at a time has."""
    simulator = WhoSimulator({})
    with running_application(simulator) as url:
        yield simulator, url


@pytest.fixture
def who(played_who: tuple[WhoSimulator, str], tmp_path: Path) -> Who:
    """A WHO without rows; put some into its simulator's entities."""
    simulator, url = played_who
    simulator.reset()
    return Who(simulator, url, tmp_path / "data")


@pytest.fixture
def rows_of(address: PostgresAddress) -> Callable[..., list[tuple[Any, ...]]]:
    """A function that asks the test's database."""

    def ask(statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        with connect(address) as connection:
            return connection.execute(statement, values).fetchall()

    return ask


def gho(code: str, **others: Any) -> Indicator:
    """An indicator of GHO."""
    return Indicator(code=code, name=code, dialect=DialectName.GHO, **others)


def ghe(code: str = "GHE", **others: Any) -> Indicator:
    """The Global Health Estimates of xMart, small pages."""
    return Indicator(
        **{
            "code": code,
            "name": "estimates",
            "dialect": DialectName.XMART,
            "entity": "DEX_CMS/GHE_FULL",
            "target": TargetTable.ESTIMATES,
            "release": "GHE{last_year}",
            "page_size": 100,
            **others,
        }
    )
