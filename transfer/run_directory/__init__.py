"""The directory of a run: its files, written atomically, locked, signed."""
