"""The differentiable search for a student: the network over all choices, what it minimises, what a choice costs."""
