"""The steps that act on an Oxide region."""
