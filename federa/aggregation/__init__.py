"""What the coordinator makes of a round's updates."""
