"""The node at work: performs the core's effects, executes blocks, pools and passes instructions.

`node` puts a node together; `replica` is the driver of the consensus core (turns, one fsync,
publish); `executor` runs blocks on the ledger; `mempool` and `gossip` bring instructions to every
leader; `sync` serves final blocks; `service` is what the API sees.
"""
