"""Tests of loads of staging."""
