"""Certificates: the authority that issues them, and those that were revoked."""
