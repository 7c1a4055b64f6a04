"""What a generated study refers to: literature, links, and the data that it shares."""

from __future__ import annotations

from functools import cache

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.sections.parts import Json, few, present, prose
from ctg_assets.simulator.vocabulary import enum

_REFERENCE_POOL = 3000
_RETRACTED_EVERY = 750


@cache
def _reference_pool() -> tuple[msgspec.Raw, ...]:
    draw = Draw(12)
    encoded = []
    for number in range(_REFERENCE_POOL):
        pmid = 10_000_000 + draw.below(30_000_000)
        year = draw.between(1985, 2025)
        citation = (
            f"{draw.pick(vocabulary.people())}. {draw.pick(vocabulary.MEASURES)}: {prose(draw, 1)} "
            f"J Gen Stud. {year};{draw.below(90)}({draw.below(12)}):{draw.below(900)}-9."
        )
        retractions = [{"pmid": str(pmid + 1), "source": f"J Gen Stud. {year + 1};1(1):1"}]
        reference = {
            "pmid": str(pmid) if draw.maybe(0.95) else None,
            "type": draw.weighted(enum("ReferenceType")),
            "citation": citation,
            "retractions": retractions if number % _RETRACTED_EVERY == 0 else None,
        }
        encoded.append(msgspec.Raw(msgspec.json.encode(present(reference))))
    return tuple(encoded)


def references_and_links(draw: Draw) -> Json:
    """Literature, links and available data sets."""
    references = draw.run(_reference_pool(), draw.heavy(2, 90)) if draw.maybe(0.35) else []
    if draw.complete:
        references.append(_reference_pool()[0])
    links = [
        {"label": prose(draw, 1), "url": f"https://www.example.org/{draw.below(10_000)}"}
        for _ in range(few(draw) if draw.maybe(0.15) else 0)
    ]
    data_sets = [
        {
            "id": f"EX-{draw.below(10_000)}",
            "type": draw.pick(
                ("Individual Participant Data Set", "Study Protocol", "Analytic Code")
            ),
            "url": "https://data.example.org",
            "comment": prose(draw, 1),
        }
        for _ in range(few(draw) if draw.maybe(0.01) else 0)
    ]
    return present(
        {
            "references": references or None,
            "seeAlsoLinks": links or None,
            "availIpds": data_sets or None,
        }
    )


def ipd_sharing(draw: Draw) -> Json:
    """Whether and how a study shares the data of its participants."""
    sharing = draw.weighted(enum("IpdSharing"))
    if sharing != "YES" and not draw.complete:
        return present(
            {"ipdSharing": sharing, "description": prose(draw, 1) if draw.random() < 0.3 else None}
        )
    return {
        "ipdSharing": sharing,
        "description": prose(draw, 2),
        "infoTypes": draw.several(enum("IpdSharingInfoType").values, 5),
        "timeFrame": prose(draw, 1),
        "accessCriteria": prose(draw, 1),
        "url": "https://data.example.org/access",
    }
