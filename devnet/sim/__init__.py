"""Seeded, deterministic simulation of the consensus core, judged by an oracle of its own.

1. `world`        virtual time, randomness, trace
2. `network`      lossy links; `disk` logs that crashes tear; `crypto` real signatures, remembered
3. `application`  a hash chain in the ledger's place
4. `node`         the driver of one honest core, with its `actor.Habits`
5. `faults`       what goes wrong; `run` a whole run; `ballots` and `oracle` what must hold
6. `byzantine`    members that lie, `attacks` the ways to; `patched` cores to lie with
7. `mutants`      broken cores that the oracle must catch

`python -m devnet.sim --help` runs seeds.
"""
