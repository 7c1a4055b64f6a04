"""Edits of what a study does: outcomes, arms, interventions, conditions, and who may take part."""

from __future__ import annotations

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.edits.desk import (
    Desk,
    Edit,
    add_item,
    items_of,
    module_of,
    objects_of,
    remove_item,
    reword,
    rotate_items,
    set_value,
)
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.sections.parts import Json, prose


def _outcome(desk: Desk) -> Json:
    return {
        "measure": f"{desk.draw.pick(vocabulary.MEASURES)} (amended {iso(desk.day)})",
        "description": prose(desk.draw, 1),
        "timeFrame": desk.draw.pick(vocabulary.TIME_FRAMES),
    }


def outcome_added(key: str) -> Edit:
    """An edit that adds an outcome measure to the list of this name."""
    return lambda study, desk: add_item(study, "outcomesModule", key, _outcome(desk))


def outcome_removed(key: str, keep: int) -> Edit:
    """An edit that removes an outcome measure from a list that has more than `keep`."""
    return lambda study, desk: remove_item(study, desk, "outcomesModule", key, keep)


def outcome_reworded(key: str) -> Edit:
    """An edit that changes the words of one outcome measure of a list."""

    def edit(study: Json, desk: Desk) -> bool:
        outcomes = objects_of(study, "outcomesModule", key)
        if not outcomes:
            return False
        outcome = desk.draw.pick(outcomes)
        part = desk.draw.pick(("measure", "description", "timeFrame"))
        if part != "measure":
            return reword(outcome, part, desk)
        # A measure keeps its words, else it would be another one.
        present = outcome.get("measure")
        return isinstance(present, str) and set_value(
            outcome, "measure", f"{present}, revised {iso(desk.day)}"
        )

    return edit


def outcomes_reordered(study: Json, desk: Desk) -> bool:
    """Put the primary outcomes into another order."""
    return rotate_items(study, desk, "outcomesModule", "primaryOutcomes")


def arm_added(study: Json, desk: Desk) -> bool:
    """Add an arm to a study that has arms."""
    if not items_of(study, "armsInterventionsModule", "armGroups"):
        return False
    arm = {"label": f"Amended Arm {iso(desk.day)}", "description": prose(desk.draw, 1)}
    return add_item(study, "armsInterventionsModule", "armGroups", arm)


def arm_removed(study: Json, desk: Desk) -> bool:
    """Remove an arm, but not the last one."""
    return remove_item(study, desk, "armsInterventionsModule", "armGroups", keep=1)


def arm_renamed(study: Json, desk: Desk) -> bool:
    """Give an arm another label, there and where interventions name it."""
    arms = objects_of(study, "armsInterventionsModule", "armGroups")
    if not arms:
        return False
    arm = desk.draw.pick(arms)
    former = arm.get("label")
    if not isinstance(former, str):
        return False
    arm["label"] = renamed = f"{former}, revised {iso(desk.day)}"
    for intervention in objects_of(study, "armsInterventionsModule", "interventions"):
        labels = intervention.get("armGroupLabels")
        if isinstance(labels, list):
            labels[:] = [renamed if label == former else label for label in labels]
    return True


def intervention_described(study: Json, desk: Desk) -> bool:
    """Describe one of the interventions anew."""
    interventions = objects_of(study, "armsInterventionsModule", "interventions")
    if not interventions:
        return False
    return set_value(desk.draw.pick(interventions), "description", prose(desk.draw, 2))


def condition_added(study: Json, desk: Desk) -> bool:
    """Add a condition."""
    term = desk.draw.pick(vocabulary.mesh_terms("condition")).term
    return add_item(study, "conditionsModule", "conditions", term)


def keyword_added(study: Json, desk: Desk) -> bool:
    """Add a keyword."""
    return add_item(study, "conditionsModule", "keywords", desk.draw.pick(vocabulary.KEYWORDS))


def keyword_removed(study: Json, desk: Desk) -> bool:
    """Remove a keyword."""
    return remove_item(study, desk, "conditionsModule", "keywords")


def criteria_reworded(study: Json, desk: Desk) -> bool:
    """Add a sentence to the eligibility criteria."""
    return reword(module_of(study, "eligibilityModule"), "eligibilityCriteria", desk)


def maximum_age_changed(study: Json, desk: Desk) -> bool:
    """Change the maximum age, or remove it."""
    eligibility = module_of(study, "eligibilityModule")
    if eligibility is not None and "maximumAge" in eligibility and desk.draw.random() < 0.5:
        del eligibility["maximumAge"]
        return True
    return set_value(eligibility, "maximumAge", f"{desk.draw.between(40, 99)} Years")
