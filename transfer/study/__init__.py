"""A study: a plan of trainings, its scheduler, executors and results."""
