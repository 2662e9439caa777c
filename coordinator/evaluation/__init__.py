"""What a state is worth: scored by the coordinator, or by the devices."""
