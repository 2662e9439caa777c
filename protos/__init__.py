"""The wire: messages, generated stubs, tensor streams and channel settings. Nothing here knows torch."""
