"""Durable state: database, journal, signer guard, keys and the home directory that holds them."""
