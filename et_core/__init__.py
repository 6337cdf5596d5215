"""et: plugin-based transfer learning for language and image-language models."""
