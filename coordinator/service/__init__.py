"""What is reachable over the network: the gRPC services, their authorisation, and the HTTP page."""
