"""What the figures in the README come from: builds against a floor of the same calls, by curl and ssh alone.

`make benchmark` runs it; `docs/benchmarks.md` says what is measured and how to read it.
"""
