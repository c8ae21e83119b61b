"""The report of a run: one HTML page, with its figures and tables beside it."""
