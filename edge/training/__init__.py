"""Local training: the runtime of a run's clients, the trainer, precision and memory."""
