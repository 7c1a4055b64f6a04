"""What sponsors and the registry change about a study: a catalogue of named edits.

An edit changes the decoded study in place and tells whether it could; on a study of an unusual shape it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ctg_assets.simulator.edits.contacts import (
    collaborator_added,
    collaborator_removed,
    contact_withdrawn,
    site_added,
    site_contact,
    site_edit,
    site_moved,
    site_removed,
    site_status,
    sites_reordered,
    sponsor_changed,
    sponsor_class_corrected,
)
from ctg_assets.simulator.edits.derived import (
    country_removed,
    mesh_terms_changed,
    mesh_terms_dropped,
)
from ctg_assets.simulator.edits.design import (
    arm_added,
    arm_removed,
    arm_renamed,
    condition_added,
    criteria_reworded,
    intervention_described,
    keyword_added,
    keyword_removed,
    maximum_age_changed,
    outcome_added,
    outcome_removed,
    outcome_reworded,
    outcomes_reordered,
)
from ctg_assets.simulator.edits.desk import Desk, Edit
from ctg_assets.simulator.edits.posting import results_posted, results_withdrawn
from ctg_assets.simulator.edits.status import (
    enrollment_became_actual,
    enrollment_changed,
    moved_date,
    primary_completion_made_exact,
    primary_completion_withdrawn,
    status_became_unknown,
    status_moved,
    study_stopped,
)
from ctg_assets.simulator.edits.texts import (
    details_withdrawn,
    document_added,
    reference_added,
    reference_removed,
    reference_retracted,
    secondary_id_added,
    summary_reworded,
    title_reworded,
)
from ctg_assets.simulator.sections.parts import Json


class EditError(ValueError):
    """An edit that does not exist, or is not possible on a study."""


# What the registry changes by itself, hence mostly without a new posting date.
_OF_THE_REGISTRY: Mapping[str, Edit] = {
    "status_became_unknown": status_became_unknown,
    "mesh_terms_changed": mesh_terms_changed,
    "mesh_terms_dropped": mesh_terms_dropped,
    "site_moved": site_edit(site_moved),
    "sites_reordered": sites_reordered,
    "country_removed": country_removed,
    "sponsor_class_corrected": sponsor_class_corrected,
    "reference_retracted": reference_retracted,
}

_OF_SPONSORS: Mapping[str, Edit] = {
    "status_moved": status_moved,
    "study_stopped": study_stopped,
    "enrollment_changed": enrollment_changed,
    "enrollment_became_actual": enrollment_became_actual,
    "start_moved": moved_date("startDateStruct"),
    "primary_completion_moved": moved_date("primaryCompletionDateStruct"),
    "primary_completion_made_exact": primary_completion_made_exact,
    "primary_completion_withdrawn": primary_completion_withdrawn,
    "completion_moved": moved_date("completionDateStruct"),
    "primary_outcome_added": outcome_added("primaryOutcomes"),
    "primary_outcome_removed": outcome_removed("primaryOutcomes", keep=1),
    "primary_outcome_reworded": outcome_reworded("primaryOutcomes"),
    "primary_outcomes_reordered": outcomes_reordered,
    "secondary_outcome_added": outcome_added("secondaryOutcomes"),
    "secondary_outcome_removed": outcome_removed("secondaryOutcomes", keep=0),
    "secondary_outcome_reworded": outcome_reworded("secondaryOutcomes"),
    "site_added": site_added,
    "site_removed": site_removed,
    "site_status_changed": site_edit(site_status),
    "site_contact_changed": site_edit(site_contact),
    "contact_withdrawn": contact_withdrawn,
    "sponsor_changed": sponsor_changed,
    "collaborator_added": collaborator_added,
    "collaborator_removed": collaborator_removed,
    "arm_added": arm_added,
    "arm_removed": arm_removed,
    "arm_renamed": arm_renamed,
    "intervention_described": intervention_described,
    "results_posted": results_posted,
    "results_withdrawn": results_withdrawn,
    "reference_added": reference_added,
    "reference_removed": reference_removed,
    "condition_added": condition_added,
    "keyword_added": keyword_added,
    "keyword_removed": keyword_removed,
    "criteria_reworded": criteria_reworded,
    "maximum_age_changed": maximum_age_changed,
    "summary_reworded": summary_reworded,
    "details_withdrawn": details_withdrawn,
    "title_reworded": title_reworded,
    "secondary_id_added": secondary_id_added,
    "document_added": document_added,
}

EDITS: Mapping[str, Edit] = {**_OF_SPONSORS, **_OF_THE_REGISTRY}
"""Every edit by name."""

ALWAYS_POSSIBLE = "title_reworded"
_MOST_EDITS = 3


def edit_at_random(study: Json, desk: Desk, *, by_registry: bool) -> tuple[str, ...]:
    """Change a study by one to three edits; returns their names, at least one.

    What is done by the registry itself is mostly drawn from what it derives, else from what sponsors change.
    """
    count = desk.draw.between(1, _MOST_EDITS)
    of_registry = by_registry and desk.draw.random() < 0.7
    names = list(_OF_THE_REGISTRY if of_registry else _OF_SPONSORS)
    done: list[str] = []
    # Not every edit is possible on every study: half of what is sponsors' does not apply to the average one.
    for _ in range(4 * count):
        name = desk.draw.pick(names)
        if name not in done and len(done) < count and EDITS[name](study, desk):
            done.append(name)
    if not done:
        EDITS[ALWAYS_POSSIBLE](study, desk)
        done.append(ALWAYS_POSSIBLE)
    return tuple(done)


def edit_by_name(study: Json, desk: Desk, names: Iterable[str]) -> None:
    """Apply these edits; raises EditError for one that does not exist or is not possible on this study."""
    for name in names:
        if name not in EDITS:
            message = f"no edit {name!r}; there are {', '.join(EDITS)}"
            raise EditError(message)
        if not EDITS[name](study, desk):
            message = f"edit {name!r} is not possible on this study"
            raise EditError(message)
