"""The SCP: connections, who may, where instances are stored, who is told."""
