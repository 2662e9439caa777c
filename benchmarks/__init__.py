"""Benchmarks: methods by time, bytes and joules to a target, and the trainer against the Hugging Face Trainer."""
