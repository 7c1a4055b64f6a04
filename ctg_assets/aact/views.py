"""AACT's views and functions, over the tables of the schema they are made in.

`{schema}` stands for that schema. The tables' names are written in full, since a reader's search path
may be anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.ownership import note_relations, require_own_relations

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JoinedValues:
    """One of the `all_*` views: a table's values of each study in one text, joined by `|`.

    `is_distinct` has each value once, in the database's sort order; otherwise they come in the order of
    the rows. NULLs are left out; a study with nothing but NULLs has an empty text.
    """

    table: str
    column: str
    is_distinct: bool
    where: str = ""

    @property
    def sql(self) -> str:
        """The view's SELECT."""
        values = (
            f"DISTINCT t.{self.column}" if self.is_distinct else f"t.{self.column} ORDER BY t.id"
        )
        where = f"WHERE {self.where} " if self.where else ""
        return (
            f"SELECT t.nct_id, array_to_string(array_agg({values}), '|') AS names "
            f"FROM {{schema}}.{self.table} AS t {where}GROUP BY t.nct_id"
        )


ALL_VIEWS: Mapping[str, JoinedValues] = {
    "all_browse_conditions": JoinedValues("browse_conditions", "mesh_term", True),
    "all_browse_interventions": JoinedValues("browse_interventions", "mesh_term", False),
    "all_cities": JoinedValues("facilities", "city", True),
    "all_conditions": JoinedValues("conditions", "name", True),
    "all_countries": JoinedValues("countries", "name", True, "t.removed IS NOT TRUE"),
    "all_design_outcomes": JoinedValues("design_outcomes", "measure", True),
    "all_facilities": JoinedValues("facilities", "name", False),
    "all_group_types": JoinedValues("design_groups", "group_type", True),
    "all_id_information": JoinedValues("id_information", "id_value", True),
    "all_intervention_types": JoinedValues("interventions", "intervention_type", False),
    "all_interventions": JoinedValues("interventions", "name", False),
    "all_keywords": JoinedValues("keywords", "name", True),
    "all_overall_official_affiliations": JoinedValues("overall_officials", "affiliation", False),
    "all_overall_officials": JoinedValues("overall_officials", "name", False),
    "all_primary_outcome_measures": JoinedValues(
        "design_outcomes", "measure", True, "t.outcome_type = 'primary'"
    ),
    "all_secondary_outcome_measures": JoinedValues(
        "design_outcomes", "measure", True, "t.outcome_type = 'secondary'"
    ),
    "all_sponsors": JoinedValues("sponsors", "name", True),
    "all_states": JoinedValues("facilities", "state", True),
}

COVID_SEARCH = "covid-19"
"""The name of the saved search that the view `covid_19_studies` is about."""

_CATEGORIES = """
SELECT r.id, r.nct_id, r.name, r.created_at, r.updated_at, r."grouping", r.study_search_id
FROM {schema}.search_results AS r
"""

# Which studies' columns these are is known, not their order.
_COVID_19_STUDIES = f"""
SELECT
    s.nct_id, s.overall_status, s.study_type, s.official_title, s.acronym, s.phase, s.why_stopped,
    s.has_dmc, s.is_fda_regulated_drug, s.is_fda_regulated_device, s.is_unapproved_device, s.enrollment,
    s.study_first_submitted_date, s.study_first_posted_date, s.results_first_submitted_date,
    s.results_first_posted_date, s.last_update_posted_date, s.start_date, s.primary_completion_date,
    s.completion_date, c.number_of_facilities, s.number_of_arms, s.number_of_groups,
    sponsor.name AS lead_sponsor, ids.names AS other_ids, e.sampling_method, e.gender, e.gender_based,
    e.gender_description, e.population, e.minimum_age, e.maximum_age, e.criteria, e.healthy_volunteers,
    keywords.names AS keywords, interventions.names AS interventions, conditions.names AS conditions,
    outcomes.names AS design_outcomes, d.allocation, d.intervention_model, d.observational_model,
    d.primary_purpose, d.time_perspective, d.masking, d.masking_description,
    d.intervention_model_description, d.subject_masked, d.caregiver_masked, d.investigator_masked,
    d.outcomes_assessor_masked, b.description AS brief_summary, dd.description AS detailed_description
FROM {{schema}}.studies AS s
LEFT JOIN {{schema}}.sponsors AS sponsor
    ON sponsor.nct_id = s.nct_id AND sponsor.lead_or_collaborator = 'lead'
LEFT JOIN {{schema}}.calculated_values AS c ON c.nct_id = s.nct_id
LEFT JOIN {{schema}}.eligibilities AS e ON e.nct_id = s.nct_id
LEFT JOIN {{schema}}.designs AS d ON d.nct_id = s.nct_id
LEFT JOIN {{schema}}.brief_summaries AS b ON b.nct_id = s.nct_id
LEFT JOIN {{schema}}.detailed_descriptions AS dd ON dd.nct_id = s.nct_id
LEFT JOIN {{schema}}.all_id_information AS ids ON ids.nct_id = s.nct_id
LEFT JOIN {{schema}}.all_keywords AS keywords ON keywords.nct_id = s.nct_id
LEFT JOIN {{schema}}.all_interventions AS interventions ON interventions.nct_id = s.nct_id
LEFT JOIN {{schema}}.all_conditions AS conditions ON conditions.nct_id = s.nct_id
LEFT JOIN {{schema}}.all_design_outcomes AS outcomes ON outcomes.nct_id = s.nct_id
WHERE s.nct_id IN (SELECT r.nct_id FROM {{schema}}.search_results AS r WHERE r.name = '{COVID_SEARCH}')
"""


def view_queries() -> Mapping[str, str]:
    """The SELECT of each view; views come after those that they read."""
    return {
        **{name: view.sql for name, view in ALL_VIEWS.items()},
        "categories": _CATEGORIES,
        "covid_19_studies": _COVID_19_STUDIES,
    }


_IDS_FOR_TERM = """
CREATE OR REPLACE FUNCTION {schema}.ids_for_term(character varying)
RETURNS TABLE (nct_id character varying) LANGUAGE sql STABLE AS $function$
    SELECT t.nct_id FROM {schema}.browse_conditions AS t WHERE t.downcase_mesh_term LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.browse_interventions AS t WHERE t.downcase_mesh_term LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.studies AS t WHERE lower(t.brief_title) LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.keywords AS t WHERE t.downcase_name LIKE lower($1)
$function$
"""

_IDS_FOR_ORG = """
CREATE OR REPLACE FUNCTION {schema}.ids_for_org(character varying)
RETURNS TABLE (nct_id character varying) LANGUAGE sql STABLE AS $function$
    SELECT t.nct_id FROM {schema}.responsible_parties AS t WHERE lower(t.affiliation) LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.facilities AS t
    WHERE lower(t.name) LIKE lower($1) OR lower(t.city) LIKE lower($1)
        OR lower(t.state) LIKE lower($1) OR lower(t.country) LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.sponsors AS t WHERE lower(t.name) LIKE lower($1)
    UNION
    SELECT t.nct_id FROM {schema}.result_contacts AS t WHERE lower(t.organization) LIKE lower($1)
$function$
"""

_STUDY_SUMMARIES = """
CREATE OR REPLACE FUNCTION {schema}.study_summaries_for_condition(character varying)
RETURNS TABLE (
    nct_id character varying, title text, recruitment character varying, were_results_reported boolean,
    conditions text, interventions text, gender character varying, age text, phase character varying,
    enrollment integer, study_type character varying, sponsors text, other_ids text,
    study_first_submitted_date date, start_date date, completion_month_year character varying,
    last_update_submitted_date date, verification_month_year character varying,
    results_first_submitted_date date, acronym character varying,
    primary_completion_month_year character varying, outcome_measures text,
    disposition_first_submitted_date date, allocation character varying,
    intervention_model character varying, observational_model character varying,
    primary_purpose character varying, time_perspective character varying, masking character varying,
    masking_description text, intervention_model_description text, subject_masked boolean,
    caregiver_masked boolean, investigator_masked boolean, outcomes_assessor_masked boolean,
    number_of_facilities integer
) LANGUAGE sql STABLE AS $function$
    SELECT s.nct_id, s.brief_title, s.overall_status, c.were_results_reported, found.term,
        interventions.names, e.gender,
        CASE
            WHEN e.minimum_age = 'N/A' AND e.maximum_age = 'N/A' THEN 'No age restriction'
            WHEN e.minimum_age <> 'N/A' AND e.maximum_age = 'N/A' THEN concat(e.minimum_age, ' and older')
            WHEN e.minimum_age = 'N/A' AND e.maximum_age <> 'N/A' THEN concat('up to ', e.maximum_age)
            ELSE concat(e.minimum_age, ' to ', e.maximum_age)
        END,
        s.phase, s.enrollment, s.study_type, sponsors.names, ids.names, s.study_first_submitted_date,
        s.start_date, s.completion_month_year, s.last_update_submitted_date, s.verification_month_year,
        s.results_first_submitted_date, s.acronym, s.primary_completion_month_year, outcomes.names,
        s.disposition_first_submitted_date, d.allocation, d.intervention_model, d.observational_model,
        d.primary_purpose, d.time_perspective, d.masking, d.masking_description,
        d.intervention_model_description, d.subject_masked, d.caregiver_masked, d.investigator_masked,
        d.outcomes_assessor_masked, c.number_of_facilities
    FROM (
        SELECT t.nct_id, t.mesh_term AS term FROM {schema}.browse_conditions AS t
        WHERE t.downcase_mesh_term LIKE lower($1)
        UNION
        SELECT t.nct_id, t.name FROM {schema}.conditions AS t WHERE t.downcase_name LIKE lower($1)
        UNION
        SELECT t.nct_id, t.name FROM {schema}.keywords AS t WHERE t.downcase_name LIKE lower($1)
    ) AS found
    JOIN {schema}.studies AS s ON s.nct_id = found.nct_id
    LEFT JOIN {schema}.calculated_values AS c ON c.nct_id = s.nct_id
    LEFT JOIN {schema}.eligibilities AS e ON e.nct_id = s.nct_id
    LEFT JOIN {schema}.designs AS d ON d.nct_id = s.nct_id
    LEFT JOIN {schema}.all_interventions AS interventions ON interventions.nct_id = s.nct_id
    LEFT JOIN {schema}.all_sponsors AS sponsors ON sponsors.nct_id = s.nct_id
    LEFT JOIN {schema}.all_id_information AS ids ON ids.nct_id = s.nct_id
    LEFT JOIN {schema}.all_design_outcomes AS outcomes ON outcomes.nct_id = s.nct_id
$function$
"""

FUNCTIONS: Mapping[str, str] = {
    "ids_for_term(character varying)": _IDS_FOR_TERM,
    "ids_for_org(character varying)": _IDS_FOR_ORG,
    "study_summaries_for_condition(character varying)": _STUDY_SUMMARIES,
}
"""The statement that makes each function, by its name with the types of its arguments."""

COUNT_ESTIMATE = """
CREATE OR REPLACE FUNCTION {schema}.count_estimate(query text)
RETURNS integer LANGUAGE plpgsql AS $function$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::integer;
END
$function$
"""
"""The planner's estimate of the rows of a statement; AACT has it in schema public."""


def view_comments() -> Mapping[str, str]:
    """What one row of each view is."""
    return {
        **{
            name: f"One row for each study that has {view.table}: all values of {view.column}, joined by |."
            for name, view in ALL_VIEWS.items()
        },
        "categories": "search_results under another name.",
        "covid_19_studies": f"One row for each study, and lead sponsor of it, that the saved search {COVID_SEARCH} found.",
    }


def make_views(
    connection: Connection,
    schema: str,
    queries: Mapping[str, str],
    comments: Mapping[str, str],
    **schemas: str,
) -> None:
    """Make views of a schema, or give those that are there these queries, in the caller's transaction.

    `queries` are SELECTs by the views' names, in an order in which each may read those before it; names in
    braces stand for `schemas`. Views of people that lie on them stay; where a view cannot be changed because
    of one, Postgres' error names it.
    """
    require_own_relations(connection, schema, list(queries))
    names = {name: sql.Identifier(called) for name, called in {"schema": schema, **schemas}.items()}
    for name, query in queries.items():
        view = sql.Identifier(schema, name)
        statement = sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(
            view, sql.SQL(query).format(**names)
        )
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.InvalidTableDefinition:
            connection.execute(sql.SQL("DROP VIEW {}").format(view))
            connection.execute(statement)
        comment = sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(comments[name]))
        connection.execute(comment)
    note_relations(connection, schema, list(queries))


def make_functions(connection: Connection, schema: str) -> None:
    """Make AACT's functions in a schema, in the caller's transaction."""
    for statement in FUNCTIONS.values():
        connection.execute(sql.SQL(statement).format(schema=sql.Identifier(schema)))


def make_public_function(connection: Connection) -> None:
    """Make `public.count_estimate`, in the caller's transaction, unless somebody has, or this user may not."""
    found = connection.execute("SELECT to_regprocedure('public.count_estimate(text)')").fetchone()
    if found != (None,):
        return
    try:
        with connection.transaction():
            connection.execute(sql.SQL(COUNT_ESTIMATE).format(schema=sql.Identifier("public")))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName) as error:
        logger.warning("leaving out public.count_estimate: %s", error.diag.message_primary)
