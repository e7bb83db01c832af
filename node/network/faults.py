"""Faults that a devnet gives a node that runs: never there on a chain with real money.

A node whose genesis is marked `devnet` listens on a Unix socket in its home, which only its user
can enter, and there takes orders. With any other genesis nothing here is opened or read, so there
is no option, port or variable that could cut off or slow down a production node: the genesis is
part of the chain id, and cannot be changed under a chain.

An order is one line of JSON, and the answer is one:

    {"held": ["node1"],                      links held down: cut, and refused from either end
     "delay_ms": {"node2": 50},              each payload to node2 leaves so much later (0..60000)
     "jitter_ms": {"node2": 10},             and up to so much more, drawn evenly (0..60000)
     "loss": {"node3": 0.05},                each payload to node3 is not sent, so probably (0..1)
     "seed": 7,                              of the draws for jitter and loss
     "clock_offset_ms": -1500}               how far the node's wall clock is off (at most a year)

    {"faults": {…the whole order, as now in force…}, "lost": {"node3": 12}}    or
    {"error": "…why nothing was changed…"}

An order is absolute: it says all that is to be wrong with the node, so it may be repeated, and
what it leaves out is not wrong (no link held, no delay, no loss, seed 0, the clock right). `{}`
heals everything. `lost` counts, since the node's start, the payloads not sent on purpose.

Faults of a link are one-way: they concern what this node sends. For a slow or lossy link both
ways, order it at both ends. They concern payloads of all channels (consensus, mempool, sync), not
the hello and keep-alive of the link itself, so a link that loses everything stays up. Payloads
of one channel keep their order whatever the jitter. Peers are named as in the validator set; a
name that is no validator (yet) has no effect until it is one, since the set changes with epochs.

Nothing outlives the process; whoever starts a node that is to come up with faults gives the order
in its environment (`NOSTRO_DEVNET_FAULTS`, the same JSON), since an order after the start would
come too late: for a moment two nodes that start on both sides of a partition would be linked.
"""
