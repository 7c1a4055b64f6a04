"""Contacts, officials and locations of a generated study."""

from __future__ import annotations

from functools import cache

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.sections.parts import Json, email, few, phone, present
from ctg_assets.simulator.vocabulary import Organization, enum

_LOCATION_POOL = 3000


def _contact(draw: Draw, role: str) -> Json:
    name = draw.pick(vocabulary.people())
    return present(
        {
            "name": name,
            "role": role,
            "phone": phone(draw) if draw.maybe(0.9) else None,
            "phoneExt": str(draw.below(900)) if draw.maybe(0.1) else None,
            "email": email(name) if draw.maybe(0.9) else None,
        }
    )


@cache
def _location_pool(*, recruiting: bool) -> tuple[msgspec.Raw, ...]:
    """Encoded locations; only those of studies that recruit have a status and contacts."""
    draw = Draw(9 + recruiting)
    statuses = enum("RecruitmentStatus")
    roles = enum("ContactRole")
    encoded = []
    for number in range(_LOCATION_POOL):
        place = draw.skewed(vocabulary.places())
        contacts = [_contact(draw, draw.weighted(roles)) for _ in range(draw.between(1, 2))]
        location = {
            "facility": draw.pick(vocabulary.facilities()) if draw.maybe(0.97) else None,
            "status": draw.weighted(statuses) if recruiting else None,
            "city": place.city,
            "state": place.state or None,
            "zip": f"{draw.below(100_000):05d}" if draw.maybe(0.8) else None,
            "country": place.country,
            "contacts": contacts if recruiting and number % 3 else None,
            "geoPoint": {"lat": place.lat, "lon": place.lon} if draw.maybe(0.98) else None,
        }
        encoded.append(msgspec.Raw(msgspec.json.encode(present(location))))
    return tuple(encoded)


def contacts_and_locations(facts: Outline, sponsor: Organization) -> Json:
    """Whom to ask about a study, who is responsible for it, and where it takes place."""
    draw = facts.draw
    recruiting = facts.status in ("RECRUITING", "NOT_YET_RECRUITING", "AVAILABLE")
    central = (
        [_contact(draw, "CONTACT") for _ in range(draw.between(1, 2))]
        if recruiting and draw.maybe(0.9)
        else None
    )
    officials = [
        {
            "name": draw.pick(vocabulary.people()),
            "affiliation": sponsor.name,
            "role": draw.weighted(enum("OfficialRole")),
        }
        for _ in range(min(5, few(draw)) if draw.maybe(0.72) else 0)
    ]
    locations = None
    if draw.maybe(0.9):
        # Most studies have one place, one in a hundred more than a hundred.
        count = 1 if draw.random() < 0.6 else draw.heavy(4, 700)
        locations = draw.run(_location_pool(recruiting=recruiting), count)
    return present(
        {"centralContacts": central, "overallOfficials": officials or None, "locations": locations}
    )
