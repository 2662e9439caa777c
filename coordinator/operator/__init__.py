"""What an operator uses: the client of a running coordinator, and a cluster of processes on this machine."""
