"""Statements that ask what tables there are: of tools that draw or query, of R and of DuckDB."""

from __future__ import annotations

from collections import Counter

from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.aact.statements.statement import Rows, Statements
from ctg_assets_tests.aact.statements.views import ALL_VIEWS

STATEMENTS = Statements()
ask = STATEMENTS.ask

TABLES = (
    "baseline_counts",
    "baseline_measurements",
    "brief_summaries",
    "browse_conditions",
    "browse_interventions",
    "calculated_values",
    "central_contacts",
    "conditions",
    "countries",
    "design_group_interventions",
    "design_groups",
    "design_outcomes",
    "designs",
    "detailed_descriptions",
    "documents",
    "drop_withdrawals",
    "eligibilities",
    "facilities",
    "facility_contacts",
    "facility_investigators",
    "id_information",
    "intervention_other_names",
    "interventions",
    "ipd_information_types",
    "keywords",
    "links",
    "mesh_headings",
    "mesh_terms",
    "milestones",
    "outcome_analyses",
    "outcome_analysis_groups",
    "outcome_counts",
    "outcome_measurements",
    "outcomes",
    "overall_officials",
    "participant_flows",
    "pending_results",
    "provided_documents",
    "reported_event_totals",
    "reported_events",
    "responsible_parties",
    "result_agreements",
    "result_contacts",
    "result_groups",
    "retractions",
    "search_results",
    "search_term_results",
    "search_terms",
    "sponsors",
    "studies",
    "study_records",
    "study_references",
    "study_searches",
)
"""AACT's 53 tables."""

VIEWS = (*ALL_VIEWS, "categories", "covid_19_studies")
"""AACT's 20 views."""

PARENTS = {
    "result_group_id": "result_groups",
    "outcome_id": "outcomes",
    "outcome_analysis_id": "outcome_analyses",
    "facility_id": "facilities",
    "intervention_id": "interventions",
    "design_group_id": "design_groups",
    "reference_id": "study_references",
    "study_search_id": "study_searches",
    "search_term_id": "search_terms",
}
"""The table whose rows a column names."""

CHILDREN = {
    "result_group_id": (
        "baseline_counts",
        "baseline_measurements",
        "drop_withdrawals",
        "milestones",
        "outcome_analysis_groups",
        "outcome_counts",
        "outcome_measurements",
        "reported_events",
    ),
    "outcome_id": ("outcome_analyses", "outcome_counts", "outcome_measurements", "result_groups"),
    "outcome_analysis_id": ("outcome_analysis_groups",),
    "facility_id": ("facility_contacts", "facility_investigators"),
    "intervention_id": ("design_group_interventions", "intervention_other_names"),
    "design_group_id": ("design_group_interventions",),
    "reference_id": ("retractions",),
    "study_search_id": ("search_results",),
    "search_term_id": ("search_term_results",),
}
"""The tables that have such a column."""

_WITHOUT_STUDY = {"mesh_headings", "mesh_terms", "search_terms", "study_searches", "study_records"}


@ask(
    "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'ctgov'",
    "information_schema",
)
def tables_of_the_schema(registry: Registry) -> Rows:
    """What model-driven tools read first."""
    tables, views = (
        [(name, kind) for name in names]
        for names, kind in ((TABLES, "BASE TABLE"), (VIEWS, "VIEW"))
    )
    return tables + views


@ask(
    """
    SELECT column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'ctgov' AND table_name = 'eligibilities' ORDER BY ordinal_position
    """,
    "information_schema",
    ordered=True,
)
def columns_of_a_table(registry: Registry) -> Rows:
    """The columns and types of a table, as the standard calls them."""
    names = {
        "id": "bigint",
        "nct_id": "character varying",
        "sampling_method": "character varying",
        "gender": "character varying",
        "minimum_age": "character varying",
        "maximum_age": "character varying",
        "healthy_volunteers": "boolean",
        "population": "text",
        "criteria": "text",
        "gender_description": "text",
        "gender_based": "boolean",
        "adult": "boolean",
        "child": "boolean",
        "older_adult": "boolean",
    }
    return [(name, kind, "NO" if name == "id" else "YES") for name, kind in names.items()]


@ask("SELECT tablename FROM pg_tables WHERE schemaname = 'ctgov'", "pg_tables", "R: dbListTables")
def tables_of_pg_tables(registry: Registry) -> Rows:
    """What RPostgreSQL lists: tables, no views."""
    return [(name,) for name in TABLES]


@ask(
    """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = ANY (current_schemas(true)) AND table_schema <> 'pg_catalog'
        AND table_type IN ('BASE TABLE', 'VIEW') AND table_schema = current_schema()
    """,
    "R: dbListTables",
    "information_schema",
)
def tables_on_the_search_path(registry: Registry) -> Rows:
    """What RPostgres lists by the search path, of which AACT's schema is the first."""
    return [(name,) for name in (*TABLES, *VIEWS)]


@ask('SELECT * FROM "studies" AS "q01" WHERE (0 = 1)', "R: dbplyr", "SELECT *")
def columns_of_no_rows(registry: Registry) -> Rows:
    """How dbplyr asks for the columns of a table."""
    return []


@ask(
    """
    SELECT "overall_status", COUNT(*) AS "n"
    FROM (SELECT "LHS".*, "mesh_term" FROM "studies" AS "LHS"
        INNER JOIN "browse_conditions" ON ("LHS"."nct_id" = "browse_conditions"."nct_id")) AS "q01"
    WHERE ("mesh_term" = 'Heart Failure')
    GROUP BY "overall_status" ORDER BY "n" DESC, "overall_status" LIMIT 3
    """,
    "R: dbplyr",
    "join on nct_id",
    ordered=True,
)
def joined_by_dbplyr(registry: Registry) -> Rows:
    """Subqueries and quoted names, as dbplyr writes them."""
    found = Counter(
        registry.by_id[one.nct_id].status
        for one in registry.terms("condition")
        if one.term == "Heart Failure"
    )
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))[:3]


@ask(
    """
    SELECT c.relname, a.attname, t.typname, a.attnotnull, c.relpages > 0
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = 'ctgov' AND c.relkind IN ('r', 'v', 'm', 'f', 'p') AND c.relname = 'conditions'
    ORDER BY a.attnum
    """,
    "DuckDB",
    ordered=True,
)
def columns_for_duckdb(registry: Registry) -> Rows:
    """How DuckDB's scanner learns columns, types and pages."""
    return [
        ("conditions", "id", "int8", True, True),
        ("conditions", "nct_id", "varchar", False, True),
        ("conditions", "name", "varchar", False, True),
        ("conditions", "downcase_name", "varchar", False, True),
    ]


@ask(
    """
    COPY (SELECT nct_id FROM ctgov.studies WHERE ctid BETWEEN '(0,0)'::tid AND '(4294967295,0)'::tid) TO STDOUT
    """,
    "DuckDB",
    "COPY",
)
def pages_for_duckdb(registry: Registry) -> Rows:
    """DuckDB copies ranges of pages, which only tables have."""
    return [(study.nct_id,) for study in registry.studies]


@ask(
    """
    SELECT tc.table_name, kcu.column_name, ccu.table_name, ccu.column_name
    FROM information_schema.table_constraints tc
    JOIN information_schema.key_column_usage kcu
        ON kcu.constraint_name = tc.constraint_name AND kcu.table_schema = tc.table_schema
        AND kcu.table_name = tc.table_name
    JOIN information_schema.constraint_column_usage ccu
        ON ccu.constraint_name = tc.constraint_name AND ccu.table_schema = tc.table_schema
    WHERE tc.constraint_type = 'FOREIGN KEY' AND tc.table_schema = 'ctgov' AND kcu.column_name <> 'nct_id'
    """,
    "keys in the catalog",
    "information_schema",
    as_owner=True,
)
def references_between_tables(registry: Registry) -> Rows:
    """What diagrams are drawn from; the standard shows constraints to owners only."""
    return [
        (child, column, PARENTS[column], "id")
        for column, children in CHILDREN.items()
        for child in children
    ]


@ask(
    """
    SELECT conrelid::regclass::text FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'ctgov'::regnamespace AND confrelid = 'studies'::regclass
    """,
    "keys in the catalog",
)
def tables_that_name_a_study(registry: Registry) -> Rows:
    """The references to studies, as anybody can read them."""
    return [(name,) for name in TABLES if name not in {*_WITHOUT_STUDY, "studies"}]


@ask(
    """
    SELECT tc.table_name, kcu.column_name FROM information_schema.table_constraints tc
    JOIN information_schema.key_column_usage kcu USING (constraint_schema, constraint_name, table_name)
    WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_schema = 'ctgov'
    """,
    "keys in the catalog",
    "information_schema",
    as_owner=True,
)
def primary_keys(registry: Registry) -> Rows:
    """The key of each table is its id, and of studies the registry's number."""
    return [(name, "nct_id" if name == "studies" else "id") for name in TABLES]


@ask(
    """
    SELECT attname, n_distinct::integer FROM pg_stats
    WHERE schemaname = 'ctgov' AND tablename = 'studies'
        AND attname IN ('overall_status', 'study_type', 'phase', 'has_dmc')
    """,
    "pg_stats",
)
def distinct_values_known(registry: Registry) -> Rows:
    """How many values a column has, as the planner knows, and tools that offer choices ask."""
    has_dmc = {
        study.json["protocolSection"].get("oversightModule", {}).get("oversightHasDmc")
        for study in registry.studies
    }
    columns: dict[str, set[object]] = {
        "overall_status": {study.status for study in registry.studies},
        "study_type": {study.study_type for study in registry.studies},
        "phase": {study.phase for study in registry.studies},
        "has_dmc": has_dmc,
    }
    return [(name, len(values - {None})) for name, values in columns.items()]


@ask(
    """
    SELECT relname, n_live_tup FROM pg_stat_user_tables WHERE schemaname = 'ctgov'
        AND relname IN ('studies', 'conditions', 'facilities', 'reported_events', 'mesh_terms')
    """,
    "row estimates",
)
def rows_as_counted_by_the_server(registry: Registry) -> Rows:
    """How many rows the server has seen each table get."""
    return _sizes(registry)


@ask(
    """
    SELECT relname, reltuples::bigint FROM pg_class WHERE relnamespace = 'ctgov'::regnamespace
        AND relname IN ('studies', 'conditions', 'facilities', 'reported_events', 'mesh_terms')
    """,
    "row estimates",
)
def rows_as_the_planner_knows(registry: Registry) -> Rows:
    """How many rows the planner reckons with."""
    return _sizes(registry)


def _sizes(registry: Registry) -> Rows:
    return [
        ("studies", len(registry.studies)),
        ("conditions", len(registry.conditions)),
        ("facilities", len(registry.facilities)),
        ("reported_events", len(registry.events)),
        ("mesh_terms", 0),
    ]


@ask(
    """
    SELECT c.relname FROM pg_catalog.pg_class c
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast'
        AND n.nspname = 'ctgov' AND pg_catalog.pg_table_is_visible(c.oid)
    """,
    "psql",
)
def what_psql_lists(registry: Registry) -> Rows:
    """All of AACT's tables and views can be named without a schema."""
    return [(name,) for name in (*TABLES, *VIEWS)]


@ask(
    r"""
    SELECT tablename FROM pg_indexes WHERE schemaname = 'ctgov' AND indexdef ~ '\(nct_id\)$'
    """,
    "psql",
)
def indexes_on_the_study(registry: Registry) -> Rows:
    """Every table of studies is found by study."""
    without = _WITHOUT_STUDY - {"study_records"}
    return [(name,) for name in TABLES if name not in without]


@ask(
    """
    SELECT routine_name, data_type FROM information_schema.routines
    WHERE specific_schema IN ('ctgov', 'public') AND routine_name NOT LIKE 'pg%'
    """,
    "functions",
    "information_schema",
)
def functions_listed(registry: Registry) -> Rows:
    """AACT's functions."""
    return [
        ("count_estimate", "integer"),
        ("ids_for_org", "character varying"),
        ("ids_for_term", "character varying"),
        ("study_summaries_for_condition", "record"),
    ]
