"""The report of a run: one page that answers, with its figures and numbers beside it."""

from .build import check_output, make_report
from .experiment import Experiment, read_experiment

__all__ = ["Experiment", "check_output", "make_report", "read_experiment"]
