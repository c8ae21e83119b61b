"""Whether it helped: one training, a transfer as a grid of trainings, scores and tables.

Names are looked up when they are asked for, so that the command line answers before torch and
the environments are imported.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .acting import policy_of
    from .arms import ARMS, Arm
    from .cells import Cell, LossChoice
    from .command_line import parse_command_line
    from .curves import CurvePoint, read_curves, write_curves
    from .dry_run import forecast
    from .durable import explain
    from .evaluation import Episodes, Evaluator, own_randomness
    from .fields import SettingsError
    from .grid import carry_out, check_directories
    from .intervals import (
        Estimate,
        bootstrap_interval,
        estimate,
        improvement,
        mean_forward_transfer,
        paired_difference,
    )
    from .judging import TrainedAgent, evaluate, load_agent
    from .lists import listing
    from .planning import Plan, plan_ablate, plan_train, plan_transfer
    from .report import Experiment, check_output, make_report, read_experiment
    from .runs import RunDirectoryError
    from .scores import area_under_curve, interquartile_mean, jumpstart, kaplan_meier
    from .settings import (
        AblateSettings,
        EvaluateSettings,
        ListSettings,
        ReportSettings,
        Settings,
        TrainSettings,
        TransferSettings,
        WatchSettings,
    )
    from .training import train_cell
    from .watching import check_gif, watch
    from .workers import warm_up

_HOME = {
    "acting": ("policy_of",),
    "arms": ("ARMS", "Arm"),
    "cells": ("Cell", "LossChoice"),
    "command_line": ("parse_command_line",),
    "curves": ("CurvePoint", "read_curves", "write_curves"),
    "dry_run": ("forecast",),
    "durable": ("explain",),
    "evaluation": ("Episodes", "Evaluator", "own_randomness"),
    "fields": ("SettingsError",),
    "grid": ("carry_out", "check_directories"),
    "intervals": (
        "Estimate",
        "bootstrap_interval",
        "estimate",
        "improvement",
        "mean_forward_transfer",
        "paired_difference",
    ),
    "judging": ("TrainedAgent", "evaluate", "load_agent"),
    "lists": ("listing",),
    "planning": ("Plan", "plan_ablate", "plan_train", "plan_transfer"),
    "report": ("Experiment", "check_output", "make_report", "read_experiment"),
    "runs": ("RunDirectoryError",),
    "scores": ("area_under_curve", "interquartile_mean", "jumpstart", "kaplan_meier"),
    "settings": (
        "AblateSettings",
        "EvaluateSettings",
        "ListSettings",
        "ReportSettings",
        "Settings",
        "TrainSettings",
        "TransferSettings",
        "WatchSettings",
    ),
    "training": ("train_cell",),
    "watching": ("check_gif", "watch"),
    "workers": ("warm_up",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ARMS",
    "AblateSettings",
    "Arm",
    "Cell",
    "CurvePoint",
    "Episodes",
    "Estimate",
    "EvaluateSettings",
    "Evaluator",
    "Experiment",
    "ListSettings",
    "LossChoice",
    "Plan",
    "ReportSettings",
    "RunDirectoryError",
    "Settings",
    "SettingsError",
    "TrainSettings",
    "TrainedAgent",
    "TransferSettings",
    "WatchSettings",
    "area_under_curve",
    "bootstrap_interval",
    "carry_out",
    "check_directories",
    "check_gif",
    "check_output",
    "estimate",
    "evaluate",
    "explain",
    "forecast",
    "improvement",
    "interquartile_mean",
    "jumpstart",
    "kaplan_meier",
    "listing",
    "load_agent",
    "make_report",
    "mean_forward_transfer",
    "own_randomness",
    "paired_difference",
    "parse_command_line",
    "plan_ablate",
    "plan_train",
    "plan_transfer",
    "policy_of",
    "read_curves",
    "read_experiment",
    "train_cell",
    "warm_up",
    "watch",
    "write_curves",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
