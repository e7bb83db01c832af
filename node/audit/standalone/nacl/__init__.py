"""Stands in for PyNaCl where nothing is installed: checks Ed25519 signatures, makes none."""
