"""What-if for liquidity: the ledger's own rules on a scenario, without a network."""
