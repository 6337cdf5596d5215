"""New texts from those of the training rows, for the teacher to label."""
