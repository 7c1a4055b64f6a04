"""Tests of the steps that join the rooms, against a simulator and a lake on disk."""
