"""Figure of observations with their positives and hardest negatives in the loss."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from contrastive_distillation.envs import draw_pictures

from .drawing import Picture, drawing, finished
from .labels import short_env
from .loaded_loss import LoadedLoss, embed_anchors

_N_ANCHORS = 256
_N_ROWS = 5
_N_NEGATIVES = 4


@dataclass(frozen=True, kw_only=True)
class _Example:
    """One row of the figure: pictures and their captions."""

    pictures: list[np.ndarray]
    captions: list[str]


def example_figure(loaded: LoadedLoss) -> Picture | None:
    """One auxiliary step of a finished training; None if observations are not pictures.

    The step uses the sampler, masks and weights of the loss. The anchors with the most varied
    pictures are shown, each picture once. The hardest negatives are those with the largest term
    `w · exp(s / τ)`.
    """
    examples = _examples(loaded)
    if not examples:
        return None
    n_columns = 2 + _N_NEGATIVES
    with drawing(height=0.98 * len(examples) + 0.3) as (figure, _):
        figure.clear()
        grid: Any = figure.subplots(len(examples), n_columns, squeeze=False)
        for line, example in zip(grid, examples, strict=True):
            shown = zip(line, example.pictures, example.captions, strict=False)
            for axes, picture, caption in shown:
                _show(axes, picture, caption)
            for axes in line[len(example.pictures) :]:
                axes.set_axis_off()
        names = ("observation", "positive", "hardest negatives")
        for axes, name in zip(grid[0], names, strict=False):
            axes.set_title(name, fontsize=8.5, loc="left")
        alt = (
            f"{len(examples)} observations of {loaded.env_id}, each with its positive and its "
            "hardest negatives from memory."
        )
        title = f"Observations of {short_env(loaded.env_id)}"
        return finished(figure, name="examples", title=title, alt=alt)


def _show(axes: Axes, picture: np.ndarray, caption: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(caption, fontsize=7, labelpad=2)


def _examples(loaded: LoadedLoss) -> list[_Example]:
    loss, memory = loaded.loss, loaded.memory
    batch = loss.sample(
        memory, _N_ANCHORS, np.random.default_rng(0), source_memory=loaded.source_memory
    )
    if batch is None or batch.target is None:
        return []
    anchors = pictures_of(batch.anchors)
    if anchors is None:
        return []
    target = batch.target
    embedded = embed_anchors(loaded, batch.anchors)
    line = np.arange(len(anchors)) % len(target.negative_rows)
    near_positive = (embedded * target.positive_keys).sum(axis=1)
    near = np.einsum("bd,bkd->bk", embedded, target.negative_keys[line])
    weights = np.zeros_like(near) if target.log_weights is None else target.log_weights
    hardness = np.where(target.mask, near / loss.temperature + weights, -np.inf)
    examples = []
    for i in _most_varied(anchors, np.asarray(np.isfinite(hardness).any(axis=1))):
        order = [j for j in np.argsort(-hardness[i], kind="stable") if np.isfinite(hardness[i, j])]
        negatives = target.negative_rows[line[i]]
        _, first = np.unique(memory.hashes(negatives[order]), return_index=True)
        chosen = [order[place] for place in sorted(first)][:_N_NEGATIVES]
        rows = np.concatenate([target.positive_rows[i : i + 1], negatives[chosen]])
        others = pictures_of(memory.observations(rows))
        assert others is not None
        captions = ["", f"cos {near_positive[i]:.2f}"]
        for j in chosen:
            weight = "" if target.log_weights is None else f", w {np.exp(weights[i, j]):.2f}"
            captions.append(f"cos {near[i, j]:.2f}{weight}")
        examples.append(_Example(pictures=[anchors[i], *others], captions=captions))
    return examples


def _most_varied(pictures: np.ndarray, usable: np.ndarray) -> list[int]:
    """Indexes of the usable pictures with the most colours, without duplicates.

    An empty room, for instance, has few colours and shows little.
    """
    flat = pictures.reshape(len(pictures), -1, 3)
    variety = [len(np.unique(each, axis=0)) for each in flat]
    chosen: list[int] = []
    for i in sorted(np.flatnonzero(usable), key=lambda i: (-variety[i], i)):
        if len(chosen) == _N_ROWS:
            break
        if not any(np.array_equal(pictures[i], pictures[j]) for j in chosen):
            chosen.append(int(i))
    return chosen


def pictures_of(observations: Any) -> np.ndarray | None:
    """Observations as pictures (N, H, W, 3) uint8; None if they are not pictures.

    Grids (N, 7, 7, 3) are drawn as by MiniGrid. Of stacked frames (N, C, H, W) the last
    frame is used. Of a dictionary the entry ``image`` is used.
    """
    images = observations.get("image") if isinstance(observations, dict) else observations
    if images is None or images.dtype != np.uint8 or images.ndim != 4:
        return None
    if images.shape[1:] == (7, 7, 3):
        drawn = draw_pictures(images)
    elif images.shape[1] in (1, 3, 4, 9, 12):
        drawn = images
    else:
        return None
    channels = drawn[:, -3:] if drawn.shape[1] % 3 == 0 else np.repeat(drawn[:, -1:], 3, axis=1)
    pictures: np.ndarray = channels.transpose(0, 2, 3, 1)
    return pictures
