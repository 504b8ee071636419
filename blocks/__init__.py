"""Connections: the credential blocks, and the typed clients that they hand out.

Nothing is imported here, so that a process which needs one client (the reaper) does not wait for Prefect.
"""
