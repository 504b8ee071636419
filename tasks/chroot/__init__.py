"""Systems on a volume of this host: the communicator of builders that provision a chroot."""
