"""Cohorts of generated participants, and encoded parts of results that report on just these groups.

A cohort is one of a few: fixed groups with fixed numbers of participants, so that the denominators of
one study agree with each other and with its enrollment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.sections.measures import analysis, classes_of_measure
from ctg_assets.simulator.sections.parts import (
    Json,
    chance,
    partial_date,
    present,
    prose,
)
from ctg_assets.simulator.vocabulary import enum

COHORTS = 32
_COHORT_SIZES = Weighted({1: 22, 2: 45, 3: 18, 4: 9, 6: 4, 12: 2})
_PRIMARY_POOL = 24
_OTHER_POOL = 72
_BASELINE_POOL = 24
_STATS_POOL = 96
_SPREADS = (
    "Standard Deviation",
    "Standard Error",
    "95% Confidence Interval",
    "Inter-Quartile Range",
    "Full Range",
    "Geometric Coefficient of Variation",
)
_UNITS = (
    "participants",
    "score on a scale",
    "mg/dL",
    "percentage of participants",
    "days",
    "µg/mL",
)
_DROP_REASONS = (
    "Withdrawal by Subject",
    "Lost to Follow-up",
    "Adverse Event",
    "Death",
    "Physician Decision",
)


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@dataclass
class Cohort:
    """Groups of participants, and pools of encoded parts that report on just these groups."""

    number: int

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many participants started in each group."""
        draw = Draw(1000 + self.number)
        arms = draw.weighted(_COHORT_SIZES)
        typical = draw.pick((8, 15, 25, 40, 60, 110, 300, 1100))
        return tuple(
            max(2, typical + draw.between(-typical // 4, typical // 4)) for _ in range(arms)
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The groups' titles, which are the labels of the study's arms as well."""
        return tuple(Draw(2000 + self.number).run(vocabulary.ARM_LABELS, len(self.sizes)))

    @property
    def total(self) -> int:
        """How many participants started."""
        return sum(self.sizes)

    def groups(self, prefix: str) -> list[Json]:
        """The groups, numbered with this prefix from 000 as in every part of a results section."""
        draw = Draw(3000 + self.number)
        return [
            {"id": f"{prefix}{place:03d}", "title": label, "description": prose(draw, 1)}
            for place, label in enumerate(self.labels)
        ]

    def counts(self, prefix: str, *, lost: int = 0) -> list[Json]:
        """The numbers of participants by group, as the text they arrive in."""
        return [
            {"groupId": f"{prefix}{place:03d}", "value": str(max(0, size - lost))}
            for place, size in enumerate(self.sizes)
        ]

    def baseline_counts(self) -> list[Json]:
        """Counts of the baseline groups, followed by that of the group of all participants."""
        total = {"groupId": f"BG{len(self.sizes):03d}", "value": str(self.total)}
        return [*self.counts("BG"), total]

    @cached_property
    def flow(self) -> tuple[msgspec.Raw, ...]:
        """Participant flow modules."""
        draw = Draw(4000 + self.number)
        return tuple(_encoded(self._flow(draw, number)) for number in range(4))

    def _flow(self, draw: Draw, number: int) -> Json:
        def stats(lost: list[int], *, remaining: bool) -> list[Json]:
            return [
                present(
                    {
                        "groupId": f"FG{place:03d}",
                        "comment": prose(draw, 1) if chance(draw, number, 30) else None,
                        "numSubjects": str(size - lost[place] if remaining else lost[place]),
                        "numUnits": str(2 * size) if number == 0 and remaining else None,
                    }
                )
                for place, size in enumerate(self.sizes)
            ]

        nobody = [0] * len(self.sizes)
        lost = [draw.below(max(1, size // 3)) for size in self.sizes]
        milestones = [
            ("STARTED", nobody, True),
            ("COMPLETED", lost, True),
            ("NOT COMPLETED", lost, False),
        ]
        return present(
            {
                "preAssignmentDetails": prose(draw, 2) if chance(draw, number, 2) else None,
                "recruitmentDetails": prose(draw, 2) if chance(draw, number, 2) else None,
                "typeUnitsAnalyzed": "eyes" if number == 0 else None,
                "groups": self.groups("FG"),
                "periods": [
                    {
                        "title": title,
                        "milestones": [
                            present(
                                {
                                    "type": type_,
                                    "comment": prose(draw, 1) if chance(draw, number, 20) else None,
                                    "achievements": stats(missing, remaining=remaining),
                                }
                            )
                            for type_, missing, remaining in milestones
                        ],
                        "dropWithdraws": [
                            present(
                                {
                                    "type": reason,
                                    "comment": prose(draw, 1) if chance(draw, number, 20) else None,
                                    "reasons": stats(
                                        lost if place == 0 else nobody, remaining=False
                                    ),
                                }
                            )
                            for place, reason in enumerate(draw.run(_DROP_REASONS, 3))
                        ],
                    }
                    for title in ("Overall Study", "Open Label Extension")[: 1 + (number % 2)]
                ],
            }
        )

    @cached_property
    def baseline(self) -> tuple[msgspec.Raw, ...]:
        """Baseline measures."""
        draw = Draw(5000 + self.number)
        return tuple(_encoded(self._baseline(draw, number)) for number in range(_BASELINE_POOL))

    def _baseline(self, draw: Draw, number: int) -> Json:
        groups = [count["groupId"] for count in self.baseline_counts()]
        denoms = [{"units": "Participants", "counts": self.baseline_counts()}]
        return present(
            {
                "title": draw.pick(
                    ("Age, Continuous", "Sex: Female, Male", "Race (NIH/OMB)", *vocabulary.MEASURES)
                ),
                "description": prose(draw, 1) if chance(draw, number, 3) else None,
                "populationDescription": prose(draw, 1) if chance(draw, number, 8) else None,
                "paramType": draw.weighted(enum("MeasureParam")),
                "dispersionType": draw.weighted(enum("MeasureDispersionType")),
                "unitOfMeasure": draw.pick(_UNITS),
                "calculatePct": number % 2 == 0 if chance(draw, number, 5) else None,
                "denomUnitsSelected": "Participants" if chance(draw, number, 10) else None,
                "denoms": denoms if chance(draw, number, 4) else None,
                "classes": classes_of_measure(draw, number, groups, denoms),
            }
        )

    @cached_property
    def primary(self) -> tuple[msgspec.Raw, ...]:
        """Primary outcome measures."""
        draw = Draw(6000 + self.number)
        return tuple(
            _encoded(self._outcome(draw, number, "PRIMARY")) for number in range(_PRIMARY_POOL)
        )

    @cached_property
    def others(self) -> tuple[msgspec.Raw, ...]:
        """Outcome measures that are not primary."""
        draw = Draw(7000 + self.number)
        types = Weighted({"SECONDARY": 85, "OTHER_PRE_SPECIFIED": 10, "POST_HOC": 5})
        return tuple(
            _encoded(self._outcome(draw, number, draw.weighted(types)))
            for number in range(_OTHER_POOL)
        )

    def _outcome(self, draw: Draw, number: int, type_: str) -> Json:
        posted = number == 0 or draw.below(40) > 0
        groups = [count["groupId"] for count in self.counts("OG")]
        unit = "eyes" if chance(draw, number, 40) else None
        denoms = [{"units": "Participants", "counts": self.counts("OG", lost=draw.below(3))}]
        awaited = number == 0 or not posted
        return present(
            {
                "type": type_,
                "title": draw.pick(vocabulary.MEASURES),
                "description": prose(draw, draw.between(1, 5)),
                "populationDescription": prose(draw, draw.between(1, 2))
                if chance(draw, number, 2)
                else None,
                "reportingStatus": "POSTED" if posted else "NOT_POSTED",
                "anticipatedPostingDate": partial_date(draw, 735_000 + draw.below(4000))
                if awaited
                else None,
                "paramType": draw.weighted(enum("MeasureParam")),
                "dispersionType": draw.pick(_SPREADS) if draw.below(5) else None,
                "unitOfMeasure": draw.pick(_UNITS),
                "calculatePct": number % 2 == 0 if chance(draw, number, 20) else None,
                "timeFrame": draw.pick(vocabulary.TIME_FRAMES),
                "typeUnitsAnalyzed": unit,
                "denomUnitsSelected": unit,
                "groups": self.groups("OG"),
                "denoms": denoms if posted else None,
                "classes": classes_of_measure(draw, number, groups, denoms) if posted else None,
                "analyses": [
                    analysis(draw, groups, complete=number == 0) for _ in range(draw.between(1, 3))
                ]
                if posted and chance(draw, number, 3)
                else None,
            }
        )

    @cached_property
    def stats(self) -> tuple[bytes, ...]:
        """Encoded stats of one adverse event, with the brace that ends the event."""
        draw = Draw(8000 + self.number)
        pool = []
        for number in range(_STATS_POOL):
            stats = []
            for place, size in enumerate(self.sizes):
                affected = int(size * draw.random() ** 4)
                events = affected + draw.below(3) if number % 2 else None
                stats.append(
                    present(
                        {
                            "groupId": f"EG{place:03d}",
                            "numEvents": events,
                            "numAffected": affected,
                            "numAtRisk": size,
                        }
                    )
                )
            pool.append(msgspec.json.encode(stats) + b"}")
        return tuple(pool)


@cache
def cohort(number: int) -> Cohort:
    """Cohort `number` of COHORTS; its pools are built when first used and kept."""
    return Cohort(number)
