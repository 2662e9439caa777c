"""Where data comes from, how it is split and partitioned, and how it becomes batches."""
