"""Tests of the service that tells how it goes."""
