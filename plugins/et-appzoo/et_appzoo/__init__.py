"""The applications: what a user wants done with a model, each with its metrics, heads and report."""
