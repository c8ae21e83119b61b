"""Whatever is typed or stands in a YAML file: exit code 0 or 2, and never a traceback."""

import contextlib
import dataclasses
import datetime
import io
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contrastive_distillation import run_agent, transfer
from contrastive_distillation.transfer.settings.commands import COMMANDS
from contrastive_distillation.transfer.settings.fields import flag_of, key_of

from .conftest import Trainer

TRAINING = ("train", "transfer", "ablate")
FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
POSITIONAL = {"--run", "--directory"}
FLAGS = {
    command: sorted(
        {flag_of(field.name) for field in dataclasses.fields(kind)} - {"--run", "--directory"}
    )
    for command, kind in COMMANDS.items()
}
KEYS = {
    command: sorted({key_of(field.name) for field in dataclasses.fields(kind)} - {"config"})
    for command, kind in COMMANDS.items()
}
ODD_WORDS = [
    "", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e400", "1e-3",
    "999999999999999999999999999999", "none", "true", "ppo", "dqn", "sac", "smoke", "CartPole-v1",
    "nowhere:No-v0", ":", "a:b", "/dev/null", "../..", "\x00x", "é", "--",
    "contrastive_distillation", "uniform", "replay", "gymnasium", "auto", "never", "100_000",
    "0x10", "1.5", "every=1,2", "n_negatives=8,nan", "=", "temperature=1e400,[", "gamma=0.9,,",
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(ODD_WORDS), st.text(alphabet=string.printable, max_size=8))
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 10**30, 0.5, float("nan"), float("inf"), [], [1], [None], ["a"],
    [["a"]], {}, {"a": 1}, datetime.date(2020, 1, 1), b"x", *ODD_WORDS,
]  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.binary(max_size=4),
        WORDS,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything up to the first frame is real."""
    for name in ("carry_out", "warm_up"):  # of the package, whose names are looked up late
        monkeypatch.setattr(transfer, name, lambda *a, **k: 0)
    monkeypatch.chdir(tmp_path)


@contextlib.contextmanager
def heard() -> Iterator[io.StringIO]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield text


def check(words: list[str]) -> None:
    with heard() as text:
        code = run_agent.main(words)
    assert code in (0, 2), f"{words}: {code}\n{text.getvalue()}"
    assert "Traceback" not in text.getvalue(), words


@FUZZ
@given(
    command=st.sampled_from(TRAINING),
    flags=st.lists(st.tuples(st.integers(0, 1000), st.lists(WORDS, max_size=2)), max_size=4),
)
@example(command="train", flags=[])
def test_any_flags(command: str, flags: list[tuple[int, list[str]]]) -> None:
    words = [command]
    for number, values in flags:
        flag = FLAGS[command][number % len(FLAGS[command])]
        words += [flag, *values]
    if "--debug" in words:
        return  # it asks for tracebacks
    check(words)


@FUZZ
@given(
    command=st.sampled_from(TRAINING),
    content=st.dictionaries(st.integers(0, 1000), VALUES, max_size=4),
)
def test_any_yaml(command: str, content: dict[int, Any]) -> None:
    keys = KEYS[command]
    values = {keys[number % len(keys)]: value for number, value in content.items()}
    if values.get("debug") is True:
        return
    Path("settings.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    check([command, "--config", "settings.yaml"])


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_every_flag_with_every_odd_word(command: str) -> None:
    for flag in FLAGS[command]:
        for word in ODD_WORDS:
            if flag != "--debug":
                check([command, flag, word])


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_every_key_with_every_odd_value(command: str) -> None:
    for key in KEYS[command]:
        for value in ODD_VALUES:
            if key != "debug":
                Path("settings.yaml").write_text(yaml.safe_dump({key: value}), encoding="utf-8")
                check([command, "--config", "settings.yaml"])


@FUZZ
@given(content=st.binary(max_size=40))
@example(content=b"a: &a [*a]")
@example(content=b"!!python/object/apply:os.system ['true']")
@example(content=b"? {a: 1}\n: 2")
def test_any_file(content: bytes) -> None:
    Path("settings.yaml").write_bytes(content)
    check(["train", "--config", "settings.yaml"])


@FUZZ
@given(
    command=st.sampled_from(["evaluate", "watch", "report", "list", "fly", ""]),
    words=st.lists(WORDS, max_size=3),
)
def test_any_other_command(command: str, words: list[str]) -> None:
    check([command, *words])


# -- with a run to look at ----------------------------------------------------------------------

LOOKING = ("evaluate", "watch", "report")


@pytest.fixture
def run(_interrupted: Trainer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The directory of a run; nothing is played or drawn."""
    for name in ("evaluate", "watch", "make_report"):
        monkeypatch.setattr(transfer, name, lambda *a, **k: 0)
    return str(_interrupted.directory)


@FUZZ
@given(
    command=st.sampled_from(LOOKING),
    flags=st.lists(st.tuples(st.integers(0, 1000), st.lists(WORDS, max_size=2)), max_size=3),
)
def test_any_flags_with_a_run(command: str, flags: list[tuple[int, list[str]]], run: str) -> None:
    words = [command, run]
    for number, values in flags:
        words += [FLAGS[command][number % len(FLAGS[command])], *values]
    if "--debug" not in words:
        check(words)


@FUZZ
@given(
    command=st.sampled_from(LOOKING),
    content=st.dictionaries(st.integers(0, 1000), VALUES, max_size=3),
)
def test_any_yaml_with_a_run(command: str, content: dict[int, Any], run: str) -> None:
    keys = sorted({*KEYS[command]} - {"run", "directory"})
    values = {keys[number % len(keys)]: value for number, value in content.items()}
    if values.get("debug") is not True:
        Path("settings.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        check([command, run, "--config", "settings.yaml"])


def places_in(config: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and list entry of nested plain values."""
    if path:
        yield path
    inside = config.items() if isinstance(config, dict) else []
    inside = enumerate(config) if isinstance(config, list) else inside
    for key, value in inside:
        yield from places_in(value, (*path, key))


@FUZZ
@given(command=st.sampled_from(LOOKING), number=st.integers(0, 10_000), value=VALUES)
def test_any_configuration_of_a_run(command: str, number: int, value: Any, run: str) -> None:
    """One thing in it is another, or is not there: a stranger may have written it."""
    path = Path(run) / "config.yaml"
    whole = path.read_text()
    config = yaml.safe_load(whole)
    *above, last = (places := list(places_in(config)))[number % len(places)]
    holder = config
    for key in above:
        holder = holder[key]
    if value is None and isinstance(holder, dict):
        del holder[last]
    else:
        holder[last] = value
    try:
        path.write_text(yaml.safe_dump(config))
        check([command, run])
    finally:
        path.write_text(whole)
