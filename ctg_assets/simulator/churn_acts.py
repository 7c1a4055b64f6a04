"""What can be done to the studies of a registry in a round, and how often each thing happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctg_assets.simulator.churn_log import ActKind

TAKEN_BACK = "taken_back"
"""As the one edit of a silent edit: the study's latest silent edit is undone, to the byte."""


def _default_shares() -> Mapping[ActKind, float]:
    # About as the registry changes on a weekday; removals and merges are rarer there, but there are more studies.
    return {
        ActKind.UPDATE: 72,
        ActKind.SILENT_EDIT: 10,
        ActKind.INSERT: 10,
        ActKind.DELETE: 4,
        ActKind.RESTORE: 2,
        ActKind.MERGE: 2,
    }


@dataclass(frozen=True, kw_only=True)
class ChurnRates:
    """How much happens in a round that nobody plans.

    `touched` is the share of the studies that a round touches (on average, and at least one study); `empty` is the
    share of rounds in which nothing happens but that the data version moves. `shares` weighs the kinds of acts.
    Raises ValueError for shares outside 0 to 1 and for weights of which none is positive.
    """

    touched: float = 0.01
    empty: float = 0.05
    shares: Mapping[ActKind, float] = field(default_factory=_default_shares)

    def __post_init__(self) -> None:
        for name, share in (("touched", self.touched), ("empty", self.empty)):
            if not 0 <= share <= 1:
                message = f"churn rate {name}: expected a share from 0 to 1, not {share:g}"
                raise ValueError(message)
        if not any(weight > 0 for weight in self.shares.values()):
            message = "churn rate shares: expected a positive weight for at least one kind of act"
            raise ValueError(message)


@dataclass(frozen=True)
class Act:
    """Something to be done to one study in the next round.

    Without `nct_id` a suitable study is drawn; without `into` (of a merge) its survivor. `edits` are names of
    `EDITS` (`simulator/edits/catalog.py`) for an update, a silent edit, or a restore that is to come back
    changed; an update or a silent edit without any draws some, and a silent edit may also be TAKEN_BACK.
    `study` is the whole content to take instead, byte for byte as given and whatever date it bears; the NCT id
    follows from it. `silent` concerns merges: the survivor gets its alias without a new posting date.
    """

    kind: ActKind
    nct_id: str | None = None
    into: str | None = None
    edits: tuple[str, ...] = ()
    study: bytes | None = None
    silent: bool = False


class ChurnError(ValueError):
    """An act that cannot be done; the message names the study and says why."""
