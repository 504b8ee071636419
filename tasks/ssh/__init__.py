"""Guests reached by SSH."""
