"""Exit codes, and the error of a setting or an argument that cannot be used."""

DONE, FAILED = 0, 1
"""Exit codes of a command that succeeded, and of one that failed."""


class SettingsError(ValueError):
    """A setting that cannot be used; its text names it, the values expected and the next step."""
