"""The device's side: the worker, its trainer, and what the hardware can do."""
