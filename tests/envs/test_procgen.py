"""Procgen: offered where its library is, refused clearly where it is not."""

import numpy as np
import pytest

from contrastive_distillation.envs import SUITES, get_task, make_vec
from contrastive_distillation.envs.procgen import PROCGEN, procgen_available

TRAIN, ALL = "contrastive/CoinRun-200Levels-v0", "contrastive/CoinRun-AllLevels-v0"


def test_offered_only_where_it_runs() -> None:
    assert ("procgen" in SUITES) == procgen_available()
    assert len(PROCGEN) == 6
    assert get_task(TRAIN).score([5, 7.5, 10]).tolist() == [0, 0.5, 1]


def test_python_cannot_run_it() -> None:
    with pytest.raises(ValueError, match="only in EnvPool"):
        make_vec(TRAIN, 1, 0, "gymnasium")


@pytest.mark.skipif(procgen_available(), reason="Procgen runs here")
def test_without_the_library_it_is_refused() -> None:
    for backend in ("auto", "envpool"):
        with pytest.raises(ValueError, match="libqt5gui5"):
            make_vec(TRAIN, 1, 0, backend)


@pytest.mark.skipif(not procgen_available(), reason="Procgen's Qt library is not here")
def test_it_keeps_the_contract() -> None:
    vec = make_vec([TRAIN, ALL], 8, 0)
    assert vec.backend == ("envpool", "envpool")
    first = vec.reset()
    assert first.shape == (8, 3, 64, 64) and first.dtype == np.uint8
    n_ends, lengths = 0, np.zeros(8, int)
    for actions in np.random.default_rng(0).integers(0, 15, size=(1_100, 8)):
        _, _, dones, infos = vec.step(actions)
        lengths += 1
        for i in np.flatnonzero(dones):
            n_ends += 1
            assert infos[i]["episode"]["l"] == lengths[i]
            assert infos[i]["terminal_observation"].shape == (3, 64, 64)
            lengths[i] = 0
    assert n_ends >= 8
