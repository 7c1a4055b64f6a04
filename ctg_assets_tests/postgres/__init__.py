"""Tests of the server, of DDL and of COPY."""
