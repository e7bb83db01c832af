"""The settlement state machine: deterministic, pure, driven block by block."""
