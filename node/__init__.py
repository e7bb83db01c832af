"""What an institution runs: the ledger, its chain of blocks, storage, network, API and command."""
