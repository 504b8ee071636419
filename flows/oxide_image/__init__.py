"""`oxide-instance`: an image of the boot disk of a temporary Oxide instance that was provisioned over SSH."""
