"""The signing key of the tests lies in a directory of their own, also for the workers."""

import atexit
import os
import shutil
import tempfile

_DATA_HOME = tempfile.mkdtemp(prefix="contrastive-distillation-tests-")
os.environ["XDG_DATA_HOME"] = _DATA_HOME
atexit.register(shutil.rmtree, _DATA_HOME, ignore_errors=True)
