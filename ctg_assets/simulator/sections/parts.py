"""Small parts of which all sections of generated studies are made: prose, dates, names, numbers."""

from __future__ import annotations

from datetime import date
from typing import Any

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.vocabulary import Organization

Json = dict[str, Any]

# Since then the registry asks for the day of a start or completion, before for the month only; and since then it
# notes when it posted something.
EXACT_SINCE = date(2017, 1, 18).toordinal()
_PARAGRAPHS = Weighted({1: 40, 2: 26, 4: 18, 7: 9, 12: 5, 24: 2})


def present(fields: Json) -> Json:
    """The fields without those that are None."""
    return {key: value for key, value in fields.items() if value is not None}


def prose(draw: Draw, count: int) -> str:
    """This many made-up sentences as one paragraph."""
    return draw.pick(vocabulary.prose_pool(count))


def paragraphs(draw: Draw) -> str:
    """Made-up prose of skewed length, in paragraphs as Markdown has them."""
    return "\n\n".join(prose(draw, draw.between(2, 6)) for _ in range(draw.weighted(_PARAGRAPHS)))


def partial_date(draw: Draw, day: int) -> str:
    """The day as the registry's PartialDate: a day, a month, or rarely just a year."""
    share = draw.random()
    if share < (0.12 if day >= EXACT_SINCE else 0.85):
        return iso(day)[:7]
    return iso(day)[:4] if share > 0.99 else iso(day)


def post_date(day: int) -> Json:
    """A posting day with its type: the registry has the actual days since 2017 and estimates before."""
    return {"date": iso(day), "type": "ACTUAL" if day >= EXACT_SINCE else "ESTIMATED"}


def organization(draw: Draw) -> Organization:
    """An invented organization; few of them sponsor most studies."""
    return draw.skewed(vocabulary.organizations()[draw.weighted(vocabulary.AGENCY_CLASS)])


def phone(draw: Draw) -> str:
    """A phone number of the range reserved for fiction."""
    return f"555-01{draw.below(100):02d}"


def email(name: str) -> str:
    """An address under the domain reserved for examples."""
    given, _, rest = name.partition(" ")
    surname = rest.partition(",")[0].partition(" ")[0]
    return f"{given}.{surname}@example.org".lower().encode("ascii", "ignore").decode()


def few(draw: Draw) -> int:
    """A count like that of conditions or interventions: mostly one, seldom more than five."""
    return min(12, int(1 / (1 - draw.random()) ** 0.7))


def chance(draw: Draw, number: int, every: int) -> bool:
    """Whether part `number` of a pool has something rare; part 0 has everything."""
    return number == 0 or draw.below(every) == 0
