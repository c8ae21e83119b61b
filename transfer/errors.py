"""The error of a setting or an argument that cannot be used."""


class SettingsError(ValueError):
    """A setting that cannot be used; its text names it, the values expected and the next step."""
