"""The BERT family on transformers' classes, and presets for its usual checkpoints."""
