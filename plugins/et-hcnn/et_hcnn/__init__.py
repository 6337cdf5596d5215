"""Networks over words for et: text matching, text classification, and transfer between two domains."""
