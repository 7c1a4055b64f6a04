"""Tables of people to turn to and of the places where a study is carried out."""

from __future__ import annotations

from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables.columns import constant, first, parent, part, text
from ctg_assets.model.tables.declaration import SAME_AS_AACT, Field, RowFilter, Source, Table

_CONTACTS = "protocolSection.contactsLocationsModule"
_SITES = f"{_CONTACTS}.locations[]"

INVESTIGATORS = ("PRINCIPAL_INVESTIGATOR", "SUB_INVESTIGATOR", "STUDY_CHAIR")
"""Roles that make a site's contact one of its investigators, as AACT has it."""


def contact_tables() -> tuple[Table, ...]:
    """The tables of contacts and sites."""
    return (
        _overall_officials(),
        _central_contacts(),
        _facilities(),
        _facility_contacts(),
        _facility_investigators(),
        _countries(),
    )


def _overall_officials() -> Table:
    return Table(
        name="overall_officials",
        description="People who are responsible for the study as a whole.",
        sources=(Source(f"{_CONTACTS}.overallOfficials[]"),),
        declared=(
            text("role", "role", "Role in the study, such as PRINCIPAL_INVESTIGATOR."),
            text("name", "name", "Name of the person."),
            text("affiliation", "affiliation", "Organization of the person."),
        ),
    )


def _central_contacts() -> Table:
    return Table(
        name="central_contacts",
        description="Whom to ask about taking part in the study, whatever the site.",
        sources=(Source(f"{_CONTACTS}.centralContacts[]"),),
        declared=(
            first(
                "contact_type",
                "primary",
                "backup",
                "Whether it is the first contact of the study (primary) or another (backup).",
            ),
            *_contact(),
            text("role", "role", "Role of the contact; CONTACT in all that are known."),
        ),
    )


def _contact(aact: str | None = SAME_AS_AACT) -> tuple[Field, ...]:
    return (
        text("name", "name", "Name of the person or office."),
        text("phone", "phone", "Telephone number.", aact),
        text("phone_extension", "phoneExt", "Extension of the telephone number.", aact),
        text("email", "email", "Electronic mail address.", aact),
    )


def _facilities() -> Table:
    return Table(
        name="facilities",
        description="Sites where a study is carried out.",
        sources=(Source(_SITES),),
        declared=(
            text("status", "status", "Recruitment status of the site."),
            text("name", "facility", "Name of the site."),
            text("city", "city", "City of the site."),
            text("state", "state", "State or province of the site."),
            text("zip", "zip", "Postal code of the site."),
            text("country", "country", "Country of the site."),
            part("latitude", "geoPoint", "lat", "Latitude of the site's city, in degrees."),
            part("longitude", "geoPoint", "lon", "Longitude of the site's city, in degrees."),
        ),
        indexes=(("name",), ("city",), ("country",)),
    )


def _facility_contacts() -> Table:
    return Table(
        name="facility_contacts",
        description="Whom to ask about taking part at one site.",
        sources=(
            Source(f"{_SITES}.contacts[]", where=RowFilter("role", INVESTIGATORS, negated=True)),
        ),
        declared=(
            parent("facility_id", "facilities", "Site that the contact answers for."),
            first(
                "contact_type",
                "primary",
                "backup",
                "Whether it is the first contact of the site (primary) or another (backup).",
            ),
            *_contact(),
            text("role", "role", "Role of the contact, such as CONTACT.", aact=None),
        ),
    )


def _facility_investigators() -> Table:
    return Table(
        name="facility_investigators",
        description="Investigators of one site.",
        sources=(Source(f"{_SITES}.contacts[]", where=RowFilter("role", INVESTIGATORS)),),
        declared=(
            parent("facility_id", "facilities", "Site at which the person investigates."),
            text("role", "role", "Role of the person, such as PRINCIPAL_INVESTIGATOR."),
            *_contact(aact=None),
        ),
    )


def _countries() -> Table:
    return Table(
        name="countries",
        description="Countries of a study's sites, and countries whose sites were all removed.",
        sources=(
            # A country's `position` is that of its first site: the order of first appearance.
            Source(
                _SITES,
                {"removed": False},
                {"name": "country"},
                distinct="country",
            ),
            Source(
                "derivedSection.miscInfoModule.removedCountries[]",
                {"removed": True},
                {"name": "."},
            ),
        ),
        declared=(
            text("name", "name", "Name of the country."),
            constant(
                "removed",
                "False for a country with sites, true for one that no longer has any.",
                ColumnType.BOOLEAN,
            ),
        ),
        indexes=(("name",),),
    )
