"""Timed scripts of load and faults against a devnet of real processes, and their judge."""
