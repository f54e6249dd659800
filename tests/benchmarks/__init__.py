"""Speed and memory beside DCMTK and pynetdicom, in one run: `python -m tests.benchmarks`."""
