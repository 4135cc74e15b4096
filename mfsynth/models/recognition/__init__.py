"""Networks that say whether an image shows what a text says."""
