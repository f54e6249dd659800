"""Why a connection failed, in words, and what to do."""
