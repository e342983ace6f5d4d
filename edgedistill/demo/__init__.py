"""The demo: the whole way from real images to a camera loop in one command, and the report about it."""
