"""The flat tables in ClickHouse, kept there study by study from the rows that fill the database, and copies of its marts."""
