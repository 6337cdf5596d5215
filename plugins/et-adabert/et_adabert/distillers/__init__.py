"""Terms of the distillation objective: what of a teacher a student is compared with."""
