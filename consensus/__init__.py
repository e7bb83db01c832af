"""Simplex: Byzantine fault tolerant agreement on a chain of blocks.

Pure: no asyncio, clock, disk, network or randomness. Read in this order:

1. `messages`     what validators sign and send, and what a certificate is
2. `certificate`  the one check of a certificate, usable offline
3. `interface`    events in, effects out, and what the caller must do with them
4. `core`         the rules of the protocol
"""
