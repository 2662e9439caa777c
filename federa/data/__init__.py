"""Labelled texts: where they come from, how they are split and dealt out, and how they become batches."""
