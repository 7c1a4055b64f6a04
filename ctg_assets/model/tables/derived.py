"""Tables of what NLM derives from the studies: the MeSH terms of conditions and interventions.

Belongs here: declarations only.
"""

from __future__ import annotations

from ctg_assets.model.tables.declaration import Source, Table, constant, lower, text


def derived_tables() -> tuple[Table, ...]:
    """The derived section's tables."""
    return (
        _mesh_terms("browse_conditions", "derivedSection.conditionBrowseModule", "conditions"),
        _mesh_terms(
            "browse_interventions", "derivedSection.interventionBrowseModule", "interventions"
        ),
    )


def _mesh_terms(name: str, module: str, subject: str) -> Table:
    return Table(
        name=name,
        description=f"MeSH terms that NLM assigned to a study's {subject}, and their ancestors.",
        sources=(
            Source(f"{module}.meshes[]", {"mesh_type": "mesh-list"}),
            Source(f"{module}.ancestors[]", {"mesh_type": "mesh-ancestor"}),
        ),
        declared=(
            text("mesh_id", "id", "MeSH descriptor id of the term.", aact=None),
            text("mesh_term", "term", "MeSH heading of the term."),
            lower("downcase_mesh_term", "term", "MeSH heading of the term in lower case."),
            constant(
                "mesh_type",
                "Whether the term was assigned (mesh-list) or stands above one that was (mesh-ancestor).",
            ),
        ),
        indexes=(("mesh_term",), ("downcase_mesh_term",), ("mesh_id",)),
    )
