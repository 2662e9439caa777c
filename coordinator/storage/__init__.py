"""What is on the disk: the ledger, the run's folder, and how a run is taken up again."""
