"""The crash matrix: every fault at every durable operation of a real daemon, which must come to the same end."""
