"""The `nostro` command."""
