"""Chaos: whole builds that are killed and failed from outside, everywhere, and a count of what is left of them.

`python -m tests.chaos` (`make chaos`) runs it. What it proves and how is said in README.md; a small part of it is a
test.
"""
