"""Files to key and trust material: PEM by the standard library, the rest by `cryptography` on need."""
