"""The state that travels: its blobs, their header, and the dtypes of the wire."""
