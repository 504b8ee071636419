"""The fleet: definitions that are deployments, and what each of them is made of."""
