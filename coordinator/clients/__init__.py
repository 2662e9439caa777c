"""Those who train: who hosts which client, what they are told, and how their updates come in."""
