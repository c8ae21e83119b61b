"""Signing key and Stable-Baselines3's logs lie in a directory of the tests, also for workers."""

import atexit
import multiprocessing
import os
import shutil
import tempfile

_DATA_HOME = tempfile.mkdtemp(prefix="contrastive-distillation-tests-")
os.environ["XDG_DATA_HOME"] = _DATA_HOME
os.environ["SB3_LOGDIR"] = os.path.join(_DATA_HOME, "logs")  # else one is left for each training
atexit.register(shutil.rmtree, _DATA_HOME, ignore_errors=True)

if "forkserver" in multiprocessing.get_all_start_methods():
    # There is one server, which keeps what it was started with: SubprocVecEnv would start it
    # without, and each worker of later tests would import everything again.
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["contrastive_distillation.transfer.study.preload"]
    )
