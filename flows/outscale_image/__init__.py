"""`outscale-chroot`: an OMI of a volume that was provisioned in a chroot on the VM that builds."""
