"""Moving in: reads a home of an older kind of trainer, checks all of it, and makes a Nightfold home of it."""
