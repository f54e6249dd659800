"""DIMSE messages (PS3.7): command sets of C-ECHO and C-STORE, and what a status means."""
