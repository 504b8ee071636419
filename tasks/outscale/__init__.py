"""The steps that act on an OUTSCALE region."""
