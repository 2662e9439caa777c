"""The worker: its connection, the run it works for, its queues and transfers."""
