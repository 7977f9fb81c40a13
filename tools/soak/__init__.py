"""The soak: one real daemon's home through many minutes of everything at once, and then an audit."""
