"""The network that a search has found; it needs nothing of the search."""
