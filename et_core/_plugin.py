"""What the core itself registers, through the same hooks as every plugin."""

ET_API = 1
