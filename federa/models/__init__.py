"""Pre-trained models and their files, and the model with a method installed."""
