"""Matching of two texts: whether they belong together, how well, and which of many candidates belongs best."""
