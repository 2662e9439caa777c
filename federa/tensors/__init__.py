"""The communicated state: its blobs, their header, and the dtypes of the wire."""
