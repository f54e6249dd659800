"""Data sets in another transfer syntax, for peers that do not take the one they are stored in."""
