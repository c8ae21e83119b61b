"""The command line: help that fits, and bad input that ends well."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from contrastive_distillation import run_agent
from contrastive_distillation.run_agent import main

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ["train", "transfer", "ablate", "evaluate", "watch", "report", "list"]
PROMISED = """
    suite agent loss frames seed seeds output backend n-envs gamma config device threads
    workers negatives n-negatives weight balance every memory keep memory-capacity debug
"""
VARIED = "contrastive/CartPole-Random-v0"
LISTED = """
    doorkey smoke keydoor appearance dynamics pixels ppo dqn contrastive_distillation
    uniform in_batch episodic replay fifo reservoir per_task value_stratified
    contrastive_source_only contrastive_target_only
    fine_tune frozen_encoder new_head scratch scratch_source_budget random_encoder random_teacher
    shuffled_values equal_compute unrelated_source atc kickstarting qdagger MiniGrid-DoorKey-8x8-v0
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command line that must end with exit code 2 says on standard error."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert not Path("runs").exists(), "nothing may be written"
    return " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_fits_80_columns(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", ["train", "transfer", "ablate"])
def test_promised_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in PROMISED.split())
    own = ["--env"] if command == "train" else ["--source", "--target", "--from", "--arms"]
    assert all(flag in text for flag in own)


def test_list_fits_80_columns_and_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in LISTED.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "unknown command 'trian'. Nearest: train"),
        (["train", "--gama", "0.9"], "--gamma"),
        (["train", "--suite", "dorkey"], "unknown suite 'dorkey'. Nearest: doorkey"),
        (["transfer", "--suite", "dorkey"], "unknown suite 'dorkey'. Nearest: doorkey"),
        (["train", "--env", "DoorKey-5x5"], "MiniGrid-DoorKey-5x5-v0"),
        (["train", "--env", "no_such_module:X-v0"], "does not import"),
        (["train", "--agent", "pop"], "unknown agent 'pop'. Nearest: ppo"),
        (["train", "--loss", "contrastive"], "Nearest: contrastive_distillation"),
        (["train", "--loss", "json:JSONDecoder"], "is not a subclass of AuxiliaryLoss"),
        (["train", "--negatives", "unifrom"], "unknown negatives 'unifrom'. Nearest: uniform"),
        (["train", "--memory", "episode"], "unknown memory 'episode'. Nearest: episodic"),
        (["train", "--keep", "resevoir"], "unknown keep 'resevoir'. Nearest: reservoir"),
        (["train", "--keep", "per_task", "--memory", "replay"], "use --memory episodic"),
        (
            ["train", "--keep", "per_task", "--n-envs", "64", "--memory-capacity", "500"],
            "environments, 64 times 8 with --keep per_task",
        ),
        (["transfer", "--arms", "scrach"], "unknown arm 'scrach'. Nearest: scratch"),
        (["transfer", "--arms", "scratch", "scratch"], "the same arm twice"),
        (["transfer", "--source", "CartPole-v1"], "say --target"),
        (["transfer", "--target", "CartPole-v1"], "say --source"),
        (["train", "--n-envs", "-3"], "--n-envs -3: must be a whole number from 1 to"),
        (["train", "--gamma", "2"], "--gamma 2.0: must be a number from 0 to 1"),
        (["train", "--frames", "0"], "--frames 0: must be a whole number of at least 1"),
        (["train", "--frames", "many"], "must be a whole number of at least 1"),
        (["train", "--device", "gpu"], "'auto', 'cpu', 'cuda'"),
        (["train", "--suite", "keydoor", "--n-envs", "64"], "use 63 or 66"),
        (["train", "--n-envs", "512", "--memory-capacity", "256"], "--memory-capacity 256"),
        (["train", "--suite", "mine.yaml"], "the suite file 'mine.yaml' does not exist"),
        (["train", "--agent", "dqn", "--env", "Pendulum-v1"], "needs discrete actions"),
        (["train", "--memory", "xyz"], "unknown memory 'xyz'. Choose from: episodic, replay."),
        (["train", "--env", "Blackjack-v1"], "an agent here sees Box, Discrete, MultiDiscrete"),
        (
            ["train", "--env", "gymnasium:Nope-v0"],
            "gymnasium imports, but does not register Nope-v0",
        ),
        (
            ["train", "--env", "FrozenLake-v1", "--backend", "envpool"],
            "EnvPool does not have an environment that equals Gymnasium's 'FrozenLake-v1'",
        ),
        (
            [*["transfer", "--source", "CartPole-v1", "--backend", "envpool", "--target"], VARIED],
            f"EnvPool does not have an environment that equals Gymnasium's '{VARIED}'",
        ),
        (["evaluate", "nowhere"], "nowhere: is not a run's directory"),
        (["watch", "nowhere", "--output", "film.mp4"], "must end in .gif"),
        (["ablate", "--vary", "evry=1,2"], "no setting 'evry' can vary. Nearest: every"),
        (["ablate", "--executor", "rya"], "'local', 'ray'"),
        (["transfer", "--from", "nowhere"], "nowhere: is not a run's directory"),
        (["report", "nowhere"], "nowhere: does not exist; expected the directory of"),
        (["report"], "DIR"),
    ],
)
def test_bad_arguments(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(capsys, *words)


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ("sac", "error: unknown agent 'sac'. Choose from: ppo, dqn."),
        ("pop", "error: unknown agent 'pop'. Nearest: ppo. Choose from: ppo, dqn."),
    ],
)
def test_names_are_listed_once(agent: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "train", "--agent", agent) == says


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("band_low=-0.1", "band_low is -0.1; it must lie in [0, 1]"),
        ("band_high=1.5", "band_high is 1.5; it must lie in [0, 1]"),
        ("band_low=0.5", "band is (0.5, 0.05); expected 0 <= low < high <= 1"),
        ("window=-1", "window is -1; it must be 0 or more"),
        ("index=tree", "index is 'tree'; expected one of auto, flat"),
        ("uniform_share=0.2", "uniform_share is 0.2; it must lie in [0.5, 1]"),
        ("n_searched=1", "n_searched is 1; it must be 2 or more"),
        ("refresh_frames=0", "refresh_frames is 0; it must be 1 or more"),
        ("teacher=3", "teacher is a int; expected a frozen encoder"),
        ("n_serched=9", "Nearest: n_searched"),
    ],
)
def test_bad_settings_of_memory_and_negatives(
    setting: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, "train", "--loss-settings", setting)
    assert "--memory-capacity 0" in refused(capsys, "train", "--memory-capacity", "0")


def test_spaces_that_do_not_fit_are_tabled(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["transfer", "--source", "CartPole-v1", "--target", "CartPole-v1", "Acrobot-v1"]
    text = refused(capsys, *words)
    assert "CartPole-v1 Acrobot-v1 fits" in text
    assert "observation 4 float32 6 float32 NO" in text
    assert "action Discrete(2) Discrete(3) NO" in text


def test_a_bad_suite_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = {
        "summary": "mine",
        "sources": ["CartPole-v1"],
        "targets": ["CartPole-v1"],
        "source_frames": 100,
        "target_frams": 100,
        "agents": ["ppo"],
    }
    Path("mine.yaml").write_text(yaml.safe_dump(suite))
    assert main(["train", "--suite", "mine.yaml"]) == 2
    assert "target_frams" in capsys.readouterr().err


def test_a_file_of_settings_names_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    Path("settings.yaml").write_text("config: others.yaml\n")
    assert "cannot name another one; remove the key" in refused(
        capsys, "train", "--config", "settings.yaml"
    )


def test_a_warning_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_agent, "_WARNED", set())
    Path("loud_envs.py").write_text(
        "import warnings, gymnasium\n"
        "def make():\n"
        "    warnings.warn('this pendulum is loud')\n"
        "    return gymnasium.make('Pendulum-v1').unwrapped\n"
        "gymnasium.register('loud/Pendulum-v0', entry_point=make)\n"
    )
    words = ["train", "--env", "loud_envs:loud/Pendulum-v0", "--agent", "dqn"]
    said = refused(capsys, *words) + refused(capsys, *words)
    assert said.count("warning: this pendulum is loud") == 1


def test_an_output_that_is_no_run_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    assert main(["train", "--suite", "smoke", "--output", str(home)]) == 2
    assert "is not a run's directory" in capsys.readouterr().err
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--suite", "dorkey", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_and_typing_errors_do_not_import_torch() -> None:
    """As a script from the checkout, so that it answers at once."""
    code = (
        "import sys; sys.argv = ['run_agent.py', 'train', '--gamma', '2'];"
        "from contrastive_distillation.run_agent import main; code = main();"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2


def test_it_runs_as_a_script() -> None:
    command = [sys.executable, str(ROOT / "run_agent.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "usage: run_agent.py" in done.stdout


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As in `run_agent.py list | head -1`."""
    command = [sys.executable, "-m", "contrastive_distillation.run_agent", "list"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0
