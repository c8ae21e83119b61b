"""Kill trainings at random moments with SIGKILL: resumed, they must end as uninterrupted ones.

    python benchmarks/kill_loop.py --runs 50

For each run: train without interruption; train again, kill the training three times at random
moments, often while it writes a checkpoint, and resume it; compare `weights_sha256`. A kill must
not leave a broken checkpoint. Then flip one bit of every file of the newest checkpoint, and
truncate every file: each must be refused. Runs that are already in the table are skipped. The exit
code is 0 if every run is equal, no checkpoint was broken and no corrupt one was accepted.
"""

import argparse
import csv
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from contrastive_distillation.transfer import TrainingSpec, TrainSettings, plan_train
from contrastive_distillation.transfer.run_directory.directory import fingerprint, read_result
from contrastive_distillation.transfer.study.jobs import Job, Outcome
from contrastive_distillation.transfer.study.local_executor import context, work
from contrastive_distillation.transfer.training.checkpoints import CheckpointError, CheckpointStore

KINDS = (
    ("ppo", "MiniGrid-Empty-Random-5x5-v0"),
    ("dqn", "CartPole-v1"),
    ("ppo", "CartPole-v1"),
    ("dqn", "MiniGrid-Empty-Random-5x5-v0"),
)
N_KILLS = 3
COLUMNS = (
    "run",
    "agent",
    "env_id",
    "equal",
    "kills",
    "while_writing",
    "resumed_at",
    "broken",
    "corrupt",
    "accepted",
    "seconds",
)


def main() -> int:
    """Do the runs that the table lacks, and print the totals of all runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--frames", type=int, default=4_000)
    parser.add_argument("--output", type=Path, default=Path("runs/kill_loop"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / f"runs-{options.frames}.csv"
    done = {int(row["run"]): row for row in _read(table)}
    for run in range(options.runs):
        if run not in done:
            row = one_run(run, options.frames, options.output / f"run{run}")
            done[run] = {key: str(value) for key, value in row.items()}
            _append(table, done[run])
            print(" ".join(f"{key}={value}" for key, value in done[run].items()), flush=True)
    rows = [done[run] for run in range(options.runs)]
    n_equal = sum(row["equal"] == "True" for row in rows)
    n_kills, n_writing, n_broken, n_corrupt, n_accepted = (
        sum(int(row[key]) for row in rows)
        for key in ("kills", "while_writing", "broken", "corrupt", "accepted")
    )
    print(
        f"weights equal to the uninterrupted run: {n_equal} of {len(rows)}, after {n_kills} kills, "
        f"{n_writing} of them while a checkpoint was written"
    )
    print(f"checkpoints found broken after a kill: {n_broken}")
    print(f"corrupt checkpoints accepted: {n_accepted} of {n_corrupt}")
    return 0 if n_equal == len(rows) and n_broken == n_accepted == 0 else 1


def one_run(run: int, frames: int, directory: Path) -> dict[str, Any]:
    """One row of the table."""
    agent, env_id = KINDS[run % len(KINDS)]
    generator = random.Random(run)
    shutil.rmtree(directory, ignore_errors=True)
    started = time.perf_counter()
    settings = TrainSettings(
        agent=agent, env=(env_id,), seed=run, frames=frames, n_envs=4, backend="gymnasium",
        memory_capacity=1_000, checkpoint_every=generator.choice([1, 300, 600]),
    )  # fmt: skip
    (spec,) = plan_train(settings).specs
    whole_seconds = _train(spec, directory / "whole", None) or 0.0
    said: list[str] = []
    n_kills = n_writing = 0
    while n_kills < N_KILLS:
        seconds = generator.uniform(0.0, whole_seconds / 2)
        if _train(spec, directory / "killed", seconds, said) is None:
            n_kills += 1
            n_writing += any((directory / "killed/checkpoints").glob(".writing-*"))
        else:  # it ended before it was killed three times
            shutil.rmtree(directory / "killed")
            said.clear()
            n_kills = n_writing = 0
    n_corrupt, n_accepted = _corrupt(spec, directory / "killed", generator)
    if not (directory / "killed/result.json").exists():
        _train(spec, directory / "killed", None, said)
    hashes = {read_result(directory / name)["weights_sha256"] for name in ("whole", "killed")}
    equal = len(hashes) == 1
    if equal:
        shutil.rmtree(directory)
    values = (
        run,
        agent,
        env_id,
        equal,
        n_kills,
        n_writing,
        "+".join(line.split(";")[0].split()[-1] for line in said if "continues at" in line),
        sum("is broken" in line for line in said),
        n_corrupt,
        n_accepted,
        round(time.perf_counter() - started, 1),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _train(
    spec: TrainingSpec, directory: Path, kill_after: float | None, said: list[str] | None = None
) -> float | None:
    """Train in a process of its own; kill it `kill_after` seconds after its first message.

    Args:
        spec: the training.
        directory: where.
        kill_after: seconds; None lets it end.
        said: the training's messages are appended to it.

    Returns:
        The seconds it took; None if it was killed before it ended.

    Raises:
        RuntimeError: the training failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    processes: Any = context()
    ours, theirs = processes.Pipe()
    process = processes.Process(
        target=work, args=(theirs, Job(spec=spec, directory=directory, command=()))
    )
    process.start()
    theirs.close()
    started, deadline = None, None
    while deadline is None or time.perf_counter() < deadline:
        if ours.poll(0.005):
            try:
                message = ours.recv()
            except EOFError:
                break
            if isinstance(message, Outcome) and message.status != "finished":
                raise RuntimeError(f"{directory}: {message.reason}")
            if isinstance(message, str) and said is not None:
                said.append(message)
            if started is None:
                started = time.perf_counter()
                deadline = None if kill_after is None else started + kill_after
        elif not process.is_alive():
            break
    if kill_after is not None:
        process.kill()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    return time.perf_counter() - (started or time.perf_counter())


def _corrupt(spec: TrainingSpec, directory: Path, generator: random.Random) -> tuple[int, int]:
    """Corrupt each file of the newest checkpoint in two ways; count all, and those accepted."""
    folder = directory / "checkpoints"
    store = CheckpointStore(folder, identity=fingerprint(spec.config()))
    found = sorted(path for path in folder.glob("*") if path.name.isdigit())
    n_corrupt = n_accepted = 0
    for path in sorted(found[-1].iterdir()) if found else []:
        content = path.read_bytes()
        if not content:  # an empty log has no bit to flip
            continue
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        for broken in (bytes(flipped), content[: generator.randrange(len(content))]):
            path.write_bytes(broken)
            n_corrupt += 1
            n_accepted += _is_accepted(store, found[-1])
        path.write_bytes(content)
    return n_corrupt, n_accepted


def _is_accepted(store: CheckpointStore, directory: Path) -> bool:
    try:
        store.check(directory)
    except CheckpointError:
        return False
    return True


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: dict[str, str]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(main())
