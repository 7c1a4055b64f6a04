"""A stand-in for the registry: its API v2 over generated or recorded studies, for demo, tests and load.

Belongs here: what a client of the registry can see, and ways to make it misbehave. Does not belong here:
anything that the product itself needs; only the command line and the tests import this package.
"""
