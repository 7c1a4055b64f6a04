"""How fast we are, how much memory we take, and how that compares: `make bench`.

Not shipped with the package. docs/performance.md says what is measured and how to read the table.
"""
