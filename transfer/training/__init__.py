"""One training: build, learn, checkpoint, resume, finish."""
