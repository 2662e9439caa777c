"""The coordinator: owns a run, deals out rounds, folds updates, evaluates and keeps the record. It needs no GPU."""
