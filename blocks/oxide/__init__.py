"""An Oxide region: its typed client, its credentials."""
