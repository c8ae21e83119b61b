"""Other PPOs with the same task, encoder and thread: frames/s, and seconds to a return of .9.

    python benchmarks/peers.py frames --repeats 3
    python benchmarks/peers.py learn --seeds 3
    pip install torchrl
    python benchmarks/peers.py learn --peers cleanrl cleanrl-64 torchrl

Peers, on DoorKey-5x5, the first two with EnvPool:

* `cleanrl`: one loop in one file, after CleanRL's ppo_atari_envpool.py, with its settings: 8
  environments, 128 steps, 4 epochs of 4 minibatches, learning rate 2.5e-4 that falls to 0, clip .1.
* `cleanrl-64`: the same with 64 environments.
* `torchrl`: TorchRL's collector, GAE and ClipPPOLoss, with the settings of "stock, tuned": 16
  environments, 128 steps, 4 epochs of minibatches of 256, learning rate 7e-4, entropy .01, clip .2.
  On Gymnasium's MiniGrid: its wrapper of EnvPool needs the old `gym`.

All use this package's encoder in its plain form and this package's heads. `ours` is this package's
agent with the loss. Times do not include evaluation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import envpool
import numpy as np
import torch
from contestants import DOORKEY, Train, ours
from learning import GOALS, Goal, Row, print_table, read, run, write
from stable_baselines3.common.preprocessing import preprocess_obs
from throughput import rounds
from torch import Tensor, nn

from contrastive_distillation.agents import GridEncoder
from contrastive_distillation.envs import make_env
from contrastive_distillation.transfer import Evaluator, own_randomness

SPACE = make_env(DOORKEY[0]).observation_space
N_ACTIONS = 7
Batch = dict[str, Tensor]
Judge = Callable[[nn.Module, int], bool]
"""Takes the network and the frames so far; returns whether to stop."""


class ActorCritic(nn.Module):
    """This package's encoder in its plain form, and heads of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = GridEncoder(SPACE, encode_distinct=False)
        width = self.encoder.features_dim
        self.actor = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, N_ACTIONS))
        self.critic = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, image: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 7) and values (B,) of images (B, 7, 7, 3) uint8 and directions (B,)."""
        features = self.features(image, direction)
        return self.actor(features), self.critic(features).squeeze(-1)

    def features(self, image: Tensor, direction: Tensor) -> Tensor:
        """(B, D) of images (B, 7, 7, 3) uint8 and directions, B in any shape."""
        observations = {"image": image, "direction": direction.reshape(len(image), -1)}
        features: Tensor = self.encoder(preprocess_obs(observations, SPACE, normalize_images=False))
        return features


def make_pool(n_envs: int, seed: int) -> Any:
    return envpool.make_gymnasium(DOORKEY[0], num_envs=n_envs, num_threads=1, seed=seed)


def tensors(observations: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    return (torch.from_numpy(observations["image"].copy()),
            torch.from_numpy(observations["direction"].astype(np.uint8)))  # fmt: skip


# ------------------------------------------------------------------------------------ CleanRL's


def cleanrl(n_envs: int, n_frames: int, seed: int, judge: Judge) -> float:
    """Train PPO in one loop, like CleanRL; returns the seconds."""
    torch.manual_seed(seed)
    pool, network, n_steps = make_pool(n_envs, seed), ActorCritic(), 128
    adam = torch.optim.Adam(network.parameters(), lr=2.5e-4, eps=1e-5)
    n_updates = max(n_frames // (n_steps * n_envs), 1)
    started = time.perf_counter()
    raw, _ = pool.reset()
    seen, ended = tensors(raw), torch.zeros(n_envs)
    for update in range(n_updates):
        adam.param_groups[0]["lr"] = 2.5e-4 * (1 - update / n_updates)
        rollout: list[dict[str, Tensor]] = []
        for _ in range(n_steps):
            with torch.no_grad():
                logits, values = network(*seen)
            policy = torch.distributions.Categorical(logits=logits)
            actions = policy.sample()
            raw, rewards, terminated, truncated, _ = pool.step(actions.numpy())
            rollout.append({
                "image": seen[0], "direction": seen[1], "actions": actions, "values": values,
                "log_probs": policy.log_prob(actions), "ended": ended,
                "rewards": torch.from_numpy(rewards),
            })  # fmt: skip
            seen = tensors(raw)
            ended = torch.from_numpy((terminated | truncated).astype(np.float32))
        with torch.no_grad():
            last = network(*seen)[1]
        steps = {key: torch.stack([step[key] for step in rollout]) for key in rollout[0]}
        steps["advantages"] = advantages(steps, last, ended)
        improve(network, adam, {key: values.flatten(0, 1) for key, values in steps.items()})
        if judge(network, (update + 1) * n_steps * n_envs):
            break
    return time.perf_counter() - started


def advantages(steps: Batch, last: Tensor, ended: Tensor) -> Tensor:
    """Generalised advantages (T, N), backwards in time; gamma .99, lambda .95."""
    found, running = torch.zeros_like(steps["rewards"]), torch.zeros_like(last)
    values = [*steps["values"], last]
    goes_on = [1 - each for each in (*steps["ended"], ended)]
    for t in reversed(range(len(found))):
        delta = steps["rewards"][t] + 0.99 * goes_on[t + 1] * values[t + 1] - values[t]
        running = delta + 0.99 * 0.95 * goes_on[t + 1] * running
        found[t] = running
    return found


def improve(network: ActorCritic, adam: torch.optim.Optimizer, batch: Batch) -> None:
    """4 epochs of 4 minibatches, both losses clipped at .1, entropy .01."""
    returns = batch["advantages"] + batch["values"]
    n = len(returns)
    for _ in range(4):
        for rows in torch.randperm(n).split(n // 4):
            logits, values = network(batch["image"][rows], batch["direction"][rows])
            policy = torch.distributions.Categorical(logits=logits)
            ratio = (policy.log_prob(batch["actions"][rows]) - batch["log_probs"][rows]).exp()
            gains = batch["advantages"][rows]
            gains = (gains - gains.mean()) / (gains.std() + 1e-8)
            loss = -torch.min(gains * ratio, gains * ratio.clamp(0.9, 1.1)).mean()
            old, wanted = batch["values"][rows], returns[rows]
            near = old + (values - old).clamp(-0.1, 0.1)
            loss = loss + 0.25 * torch.max((values - wanted) ** 2, (near - wanted) ** 2).mean()
            loss = loss - 0.01 * policy.entropy().mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            adam.step()


# ------------------------------------------------------------------------------------ TorchRL's


def torchrl(n_envs: int, n_frames: int, seed: int, judge: Judge) -> float:
    """Train PPO with TorchRL; returns the seconds."""
    from tensordict.nn import TensorDictModule
    from torchrl.collectors import Collector
    from torchrl.envs import GymWrapper, SerialEnv
    from torchrl.modules import ActorValueOperator, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    torch.manual_seed(seed)
    network = ActorCritic()
    env = SerialEnv(
        n_envs, lambda: GymWrapper(make_env(DOORKEY[0]), categorical_action_encoding=True)
    )
    env.set_seed(seed)
    policy = ProbabilisticActor(
        TensorDictModule(network.actor, in_keys=["features"], out_keys=["logits"]),
        in_keys=["logits"], out_keys=["action"],
        distribution_class=torch.distributions.Categorical, return_log_prob=True,
    )  # fmt: skip
    encoder = TensorDictModule(
        Features(network), in_keys=["image", "direction"], out_keys=["features"]
    )
    joined = ActorValueOperator(
        encoder, policy, ValueOperator(network.critic, in_keys=["features"])
    )
    actor, critic = joined.get_policy_operator(), joined.get_value_operator()
    n_batch = 128 * n_envs
    collector = Collector(env, actor, frames_per_batch=n_batch, total_frames=n_frames)
    estimate = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(
        actor, critic, clip_epsilon=0.2, entropy_coeff=0.01, critic_coeff=0.5,
        normalize_advantage=True, loss_critic_type="l2",
    )  # fmt: skip
    adam = torch.optim.Adam(loss.parameters(), lr=7e-4, eps=1e-5)
    started = time.perf_counter()
    for n_batches, data in enumerate(collector, 1):
        with torch.no_grad():
            estimate(data)
        rows = data.reshape(-1)
        for _ in range(4):
            for chosen in torch.randperm(len(rows)).split(256):
                terms = loss(rows[chosen])
                total = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
                adam.zero_grad()
                total.backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                adam.step()
        if judge(network, n_batches * n_batch):
            break
    seconds = time.perf_counter() - started
    collector.shutdown()
    return seconds


class Features(nn.Module):
    """The encoder for any number of leading dimensions, as TorchRL calls it."""

    def __init__(self, network: ActorCritic) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, direction: Tensor) -> Tensor:
        """Features (…, D) of images (…, 7, 7, 3) and directions (…, 1)."""
        leading = image.shape[:-3]
        features = self.network.features(image.reshape(-1, *image.shape[-3:]), direction)
        return features.reshape(*leading, -1)


# ------------------------------------------------------------------------------------ all of them


PEERS: Mapping[str, Callable[[int, int, Judge], float]] = {
    "cleanrl": partial(cleanrl, 8),
    "cleanrl-64": partial(cleanrl, 64),
    "torchrl": partial(torchrl, 16),
}


class Judged:
    """Stops a peer when 32 sampled episodes return enough; `seconds` is its own time."""

    def __init__(self, goal: Goal, seed: int) -> None:
        self._evaluator = Evaluator(
            env_ids=goal.env_ids, backend="auto", observation="auto", mission=False
        )
        self._goal, self._seed, self._next = goal, seed, goal.every
        self.seconds = 0.0
        self.learnt_at: int | None = None

    def __call__(self, network: nn.Module, n_frames: int) -> bool:
        if n_frames < self._next:
            return False
        self._next += self._goal.every
        started = time.perf_counter()
        with own_randomness(self._seed):
            played = self._evaluator.play(
                partial(sample, network), n_episodes=32, seed=self._seed, index=self._next
            )
        if float(np.mean(played[0].returns)) >= self._goal.threshold:
            self.learnt_at = n_frames
        self.seconds += time.perf_counter() - started
        return self.learnt_at is not None


def sample(network: nn.Module, observations: Mapping[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        logits, _ = network(*tensors(observations))
    return torch.distributions.Categorical(logits=logits).sample().numpy()


def frames(names: Sequence[str], repeats: int) -> None:
    contestants: dict[str, tuple[Train, int]] = {
        name: (lambda seed, _, run=PEERS[name]: run(32_768, seed, lambda *_: False), 32_768)
        for name in names
    }
    contestants["ours"] = (ours("ppo", DOORKEY, 65_536, loss=True), 65_536)
    speeds = rounds(contestants, repeats)
    print("| contestant | frames/s | ours / this |\n|---|---|---|")
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ours"], values, strict=True)]
        print(f"| {name} | {statistics.median(values):,.0f} | {statistics.median(ratios):.1f} |")


def learn(names: Sequence[str], n_seeds: int, path: Path) -> None:
    goal = GOALS["DoorKey-5x5"]
    rows = read(path)
    done = {(row.contestant, row.seed) for row in rows}
    for seed in range(n_seeds):
        for name in names:
            if (name, seed) not in done:
                judged = Judged(goal, seed)
                seconds = PEERS[name](goal.most_frames, seed, judged) - judged.seconds
                row = Row("DoorKey-5x5", name, seed, judged.learnt_at, round(seconds, 2))
                rows.append(row)
                write(path, row)
        if ("ours", seed) not in done:
            rows.append(run("DoorKey-5x5", "ours", seed))
            write(path, rows[-1])
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["frames", "learn"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["cleanrl", "cleanrl-64"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds (frames)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (learn)")
    parser.add_argument("--output", type=Path, default=Path("runs/peers.csv"),
                        help="CSV of runs, continued if it exists (learn)")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "frames":
        frames(arguments.peers, arguments.repeats)
    else:
        learn(arguments.peers, arguments.seeds, arguments.output)


if __name__ == "__main__":
    main()
