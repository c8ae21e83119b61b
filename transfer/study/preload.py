"""Everything a worker imports, so that the server which workers are forked from has it once.

Nothing here starts a thread: those do not survive a fork.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.utils.tensorboard

from contrastive_distillation.envs import make_vec

from ..training import train  # noqa: F401

make_vec(["MiniGrid-Empty-5x5-v0"], 1, 0, mission=False).close()  # imports its backend; no reset
torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports torch's compiler: a second
