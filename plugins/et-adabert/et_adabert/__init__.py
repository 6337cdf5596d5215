"""Knowledge distillation for et: what a student learns of a teacher, more data to learn it on, a student found."""
