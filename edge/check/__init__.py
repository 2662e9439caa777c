"""What `federa-worker --check` looks at."""
