"""C-STORE as an SCU: which instance goes next, over which associations, and what became of it."""
