"""Knowledge distillation for et: what a student learns from its teacher, more data to learn it on, and a student found."""
