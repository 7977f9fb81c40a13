"""One room for each actor; none imports another, and what passes between two rooms is a message."""
