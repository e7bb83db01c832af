"""What a devnet does on this machine, as ratios to what the machine can do at all.

Real node processes, real sockets, production durability, one run. `run` is the order of
measurements, `drive` the load, `machine` the bound and the processes' own figures.
"""
