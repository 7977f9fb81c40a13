"""What ``nightfold doctor`` looks at: each module is one part of a home, each check a generator of findings."""
