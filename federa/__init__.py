"""FeDeRA in federated learning: the method, its models, its data and one description of a run.

Nothing here knows a network, a clock or a device. Importing the package is cheap: torch, transformers and PEFT are
imported where they are used.
"""

__version__ = "0.1.0"
