"""The Checkpointer's room: owns state/ and snapshots/, and replaces HEAD, the only commit there is."""
