"""Power, load and temperatures of this device: sources behind one interface, the meter, and where the joules went."""
