"""The HTTP API: the server over a running node, and the client that the command uses."""
