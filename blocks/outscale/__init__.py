"""An OUTSCALE region: its typed client, its credentials, the VM that this process runs on."""
