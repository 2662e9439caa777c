"""A run's rounds: the state machine, its events, and the executor that carries its decisions out."""
