#!/bin/sh
# Run once, by the image of Postgres, when the database is made: a role and a database of Dagster's own.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 <<'SQL'
\getenv password DAGSTER_DATABASE_PASSWORD
CREATE ROLE dagster LOGIN PASSWORD :'password';
CREATE DATABASE dagster OWNER dagster;
SQL
