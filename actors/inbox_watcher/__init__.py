"""The InboxWatcher's room: owns the inbox and every dropped file, from arrival to its last place."""
