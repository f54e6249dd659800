"""What the commands do, as a library: no printing, no exit, no logging configuration."""
