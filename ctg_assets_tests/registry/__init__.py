"""Tests of the registry client and of its rate limit."""
