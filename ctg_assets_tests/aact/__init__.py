"""AACT's tables: how they are made, and that people's SQL gets AACT's answers from them."""
