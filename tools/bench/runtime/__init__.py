"""The kernel's speed beside its peers': see ``__main__``."""
