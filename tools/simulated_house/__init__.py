"""The whole house on a fake clock and a fake disk, under one seed: the real actors, a learner that can be checked."""
