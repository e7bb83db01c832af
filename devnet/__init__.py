"""A local network of real node processes, and the simulator."""
