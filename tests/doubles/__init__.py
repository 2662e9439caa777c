"""Stand-ins for what a test or a transport benchmark must not pay for. None of them is in the wheel."""
