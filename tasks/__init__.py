"""The steps of a build: one retryable Prefect task a step, grouped by what it acts on."""
