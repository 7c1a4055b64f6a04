"""Edits of who runs a study and where: sponsors, contacts and sites."""

from __future__ import annotations

from collections.abc import Callable

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.edits.desk import (
    Desk,
    Edit,
    add_item,
    module_of,
    object_at,
    objects_of,
    other_value,
    overall_status,
    remove_item,
    rotate_items,
    set_value,
)
from ctg_assets.simulator.sections.parts import Json, organization, phone
from ctg_assets.simulator.vocabulary import enum


def site_added(study: Json, desk: Desk) -> bool:
    """Add a location."""
    place = desk.draw.skewed(vocabulary.places())
    location: Json = {"facility": desk.draw.pick(vocabulary.facilities())}
    if overall_status(study) == "RECRUITING":
        location["status"] = desk.draw.weighted(enum("RecruitmentStatus"))
    location |= {"city": place.city, "country": place.country}
    location["geoPoint"] = {"lat": place.lat, "lon": place.lon}
    return add_item(study, "contactsLocationsModule", "locations", location)


def site_removed(study: Json, desk: Desk) -> bool:
    """Remove a location."""
    return remove_item(study, desk, "contactsLocationsModule", "locations")


def site_edit(change: Callable[[Json, Desk], bool]) -> Edit:
    """An edit of one of the study's sites."""

    def edit(study: Json, desk: Desk) -> bool:
        sites = objects_of(study, "contactsLocationsModule", "locations")
        return bool(sites) and change(desk.draw.pick(sites), desk)

    return edit


def site_status(site: Json, desk: Desk) -> bool:
    """Give a site another status."""
    return set_value(site, "status", other_value(desk, "RecruitmentStatus", site.get("status")))


def site_contact(site: Json, desk: Desk) -> bool:
    """Give a site one new contact."""
    name = desk.draw.pick(vocabulary.people())
    contact = {"name": name, "role": "CONTACT", "phone": phone(desk.draw)}
    return set_value(site, "contacts", [contact])


def site_moved(site: Json, desk: Desk) -> bool:
    """Give a site other coordinates."""
    place = desk.draw.pick(vocabulary.places())
    return set_value(site, "geoPoint", {"lat": place.lat, "lon": place.lon})


def sites_reordered(study: Json, desk: Desk) -> bool:
    """Put the locations into another order."""
    return rotate_items(study, desk, "contactsLocationsModule", "locations")


def contact_withdrawn(study: Json, desk: Desk) -> bool:
    """Remove a central contact."""
    return remove_item(study, desk, "contactsLocationsModule", "centralContacts")


def sponsor_changed(study: Json, desk: Desk) -> bool:
    """Give the study another lead sponsor."""
    sponsor = organization(desk.draw)
    lead = {"name": sponsor.name, "class": sponsor.agency_class}
    return set_value(module_of(study, "sponsorCollaboratorsModule"), "leadSponsor", lead)


def collaborator_added(study: Json, desk: Desk) -> bool:
    """Add a collaborator."""
    partner = organization(desk.draw)
    item = {"name": partner.name, "class": partner.agency_class}
    return add_item(study, "sponsorCollaboratorsModule", "collaborators", item)


def collaborator_removed(study: Json, desk: Desk) -> bool:
    """Remove a collaborator."""
    return remove_item(study, desk, "sponsorCollaboratorsModule", "collaborators")


def sponsor_class_corrected(study: Json, desk: Desk) -> bool:
    """Give the lead sponsor another class."""
    lead = object_at(study, "protocolSection", "sponsorCollaboratorsModule", "leadSponsor")
    present = None if lead is None else lead.get("class")
    return set_value(lead, "class", other_value(desk, "AgencyClass", present))
