"""What the tests share: running the command, certificates, real peers."""
