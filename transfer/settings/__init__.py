"""Settings: from flags and YAML to resolved values and specifications of trainings."""
