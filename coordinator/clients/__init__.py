"""Those who train: who hosts which client, what is sent to them, and how their updates come in."""
