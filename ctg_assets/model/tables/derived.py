"""Tables of what NLM derives from the studies: MeSH terms, and places in the registry's topic tree."""

from __future__ import annotations

from ctg_assets.model.tables.columns import constant, lower, text
from ctg_assets.model.tables.declaration import Source, Table


def derived_tables() -> tuple[Table, ...]:
    """The derived section's tables."""
    return (
        _mesh_terms("browse_conditions", "derivedSection.conditionBrowseModule", "conditions"),
        _mesh_terms(
            "browse_interventions", "derivedSection.interventionBrowseModule", "interventions"
        ),
        *_topics("condition", "derivedSection.conditionBrowseModule"),
        *_topics("intervention", "derivedSection.interventionBrowseModule"),
    )


def _topics(subject: str, module: str) -> tuple[Table, ...]:
    return (
        Table(
            name=f"browse_{subject}_leaves",
            description=f"Topics of the registry's tree of {subject}s under which a study is found.",
            sources=(Source(f"{module}.browseLeaves[]"),),
            declared=(
                text("leaf_id", "id", "Identifier of the topic in the registry's tree."),
                text("name", "name", "Name of the topic."),
                text("as_found", "asFound", "Words of the study that led to the topic."),
                text("relevance", "relevance", "How well the topic fits the study: LOW or HIGH."),
            ),
            in_aact=False,
        ),
        Table(
            name=f"browse_{subject}_branches",
            description=f"Branches of the registry's tree of {subject}s that hold a study's topics.",
            sources=(Source(f"{module}.browseBranches[]"),),
            declared=(
                text("abbrev", "abbrev", "Abbreviation of the branch, such as BC23."),
                text("name", "name", "Name of the branch."),
            ),
            in_aact=False,
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
        indexes=(("mesh_term",),),
    )
