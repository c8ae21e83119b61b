"""Faults of what is asked for, through the command line: exit 2, what was wrong, what to do."""

from pathlib import Path

import pytest

from contrastive_distillation.run_agent import main

from .conftest import GRID, VECTOR, Trainer


def test_another_observation_or_action_space_at_transfer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["transfer", "--source", GRID, "--target", VECTOR, "--output", str(tmp_path / "run")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "does not fit" in err and "image" in err and "action" in err
    assert not (tmp_path / "run").exists(), "before a frame is spent"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env", "MiniGrid-DorKey-5x5-v0"], ["MiniGrid-DoorKey-5x5-v0"]),
        (["--env", "ALE/Pong-v5"], ["ale-py"]),
        (["--agent", "sac"], ["ppo, dqn"]),
        (["--gamma", "2"], ["--gamma 2", "from 0 to 1"]),
        (["--checkpoint-every", "0"], ["--checkpoint-every 0", "at least 1"]),
        (["--env-timeout", "-1"], ["--env-timeout -1"]),
        (["--resume", "require", "--output", "nowhere"], ["there is no run in nowhere"]),
        (["--config", "broken.yaml"], ["broken.yaml", "n_negatives"]),
    ],
)
def test_names_and_values_that_cannot_be(
    words: list[str],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("n_negative: 3\n")
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in said), err
    assert "Traceback" not in err


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_more_negatives_than_a_memory_has_rows(agent: str, tmp_path: Path) -> None:
    trainer = Trainer(
        tmp_path, agent=agent, n_negatives=100_000, memory_capacity=256, frames=600, n_envs=4
    )
    assert trainer.run() == "finished"
    assert trainer.result["frames"] >= 600


def test_what_memory_and_auxiliary_file_hold_is_finite(interrupted: Trainer) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from contrastive_distillation.agents import AuxiliaryLossCallback
    from contrastive_distillation.memory import EpisodicMemory, unpack

    assert interrupted.run() == "finished"
    auxiliary = interrupted.directory / "aux.safetensors"
    tensors = load_file(auxiliary)
    with safe_open(auxiliary, "pt") as file:
        metadata = file.metadata()
    name = next(key for key in tensors if key.startswith("loss/") and tensors[key].ndim == 2)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, auxiliary, metadata=metadata)
    with pytest.raises(ValueError, match="numbers that are not finite"):
        AuxiliaryLossCallback.load(auxiliary)

    memory = interrupted.directory / "memory.safetensors"
    arrays = unpack({name: tensor.numpy() for name, tensor in load_file(memory).items()})
    with safe_open(memory, "pt") as file:
        metadata = file.metadata()
    arrays["rewards"][0] = float("inf")
    save_file({n: torch.from_numpy(a) for n, a in arrays.items()}, memory, metadata=metadata)
    with pytest.raises(ValueError, match=r"memory\.safetensors: rewards has numbers"):
        EpisodicMemory.load(memory)
