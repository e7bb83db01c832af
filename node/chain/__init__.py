"""Blocks, canonical encoding, Merkle trees, proofs and signatures. Pure."""
