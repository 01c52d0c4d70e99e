# Copyright (c) MMMixPro contributors.
import math
from collections.abc import Sequence
from typing import NamedTuple

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmpretrain.registry import LOOPS, TASK_UTILS
from torch import Tensor
from torch.utils.data import DataLoader

from mmmixpro.datasets.patches import KINDS, Kind, as_grid, exact, occlude, random_ranks, salient_ranks

from .saliency import Saliency
from .settings_loop import SettingsTestLoop, sample_indices


class Setting(NamedTuple):
    """How images are shown to the model.

    Attributes:
        kind: Which patches are hidden.
        ratio: Share of them.
        keys: Names of the results; several where they are one.
    """

    kind: Kind
    ratio: float
    keys: list[str]


@LOOPS.register_module()
class OcclusionTestLoop(SettingsTestLoop):
    """Accuracy on images of which patches are hidden (Fig. 3 of MixPro).

    ``Intriguing Properties of Vision Transformers <https://arxiv.org/abs/2105.10497>``: patches are set to 0 in pixel
    space, before normalisation. One pass over the data: each image is decoded once and its salience computed once, for
    all kinds and ratios. Results are ``occlusion/<kind>/<percent>``; 0 % is what the stock ``TestLoop`` gives.

    Of ``P`` patches, ``random`` and ``salient`` hide ``floor(ratio * P + 1/2)``; ``non-salient`` hides those that
    ``salient`` shows at ``1 - ratio``. The patches that are hidden at a ratio are among those hidden at a greater one.

    Args:
        runner: The runner.
        dataloader: The data loader, or its config.
        evaluator: The evaluator of each setting, or its config. ``CompactAccuracy`` needs little memory; the first
            value of others is the setting's, too.
        ratios: Shares of the patches to hide, in [0, 1].
        kinds: Some of ``'random'``, ``'salient'`` and ``'non-salient'``.
        grid: Patches along both sides, or rows and columns.
        seed: Of ``random``; not negative.
        saliency: Config of what tells the salient patches: ``OwnAttentionSaliency``, ``GuideAttentionSaliency``
            (DINO), ``StoredMapSaliency``, or a :class:`Saliency` of your own in mmpretrain's ``TASK_UTILS``. It is not
            used, and may be None, for ``random``.
        fp16: Whether to predict with automatic mixed precision; salience is computed without.

    Raises:
        ValueError: If an argument is out of its range, or if salient patches are asked for and nothing tells them.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        ratios: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        kinds: Sequence[str] = ('random', 'salient', 'non-salient'),
        grid: int | tuple[int, int] = 14,
        seed: int = 0,
        saliency: dict | None = dict(type='OwnAttentionSaliency'),
        fp16: bool = False,
    ):
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(f'kinds={list(kinds)} must be some of {list(KINDS)}, each once.')
        percents = [f'{100 * float(exact(ratio)):g}' for ratio in ratios]
        if not ratios or len(set(percents)) < len(percents):
            raise ValueError(f'ratios={list(ratios)} must be shares of the patches in [0, 1], each once.')
        if seed < 0:
            raise ValueError(f'seed={seed} must not be negative.')
        self.grid = as_grid(grid)
        self.seed = seed
        self.settings: list[Setting] = []
        for ratio, percent in zip(ratios, percents, strict=True):
            keys = [f'occlusion/{kind}/{percent}' for kind in kinds]
            if exact(ratio) in (0, 1):
                # Where nothing is hidden, or all, the kinds are one.
                self.settings.append(Setting(KINDS[kinds[0]], ratio, keys))
            else:
                self.settings += [Setting(KINDS[kind], ratio, [key]) for kind, key in zip(kinds, keys, strict=True)]
        #: Which orders are asked for: by salience (True), at random (False).
        self.orders = {KINDS[kind].salient for kind in kinds}
        self.saliency: Saliency | None = None
        if True in self.orders:
            if saliency is None:
                raise ValueError(
                    f"kinds={list(kinds)} need to know what is salient: set saliency, or kinds=['random']."
                )
            self.saliency = TASK_UTILS.build(saliency)
        super().__init__(
            runner, dataloader, evaluator, [key for setting in self.settings for key in setting.keys], fp16
        )

    def prepare(self) -> None:
        super().prepare()
        if self.saliency is not None:
            self.saliency.prepare(self.model)

    def describe(self) -> str:
        """Grid, seed, and what tells the salient patches."""
        parts = [f'{self.grid[0]} x {self.grid[1]} patches']
        if False in self.orders:
            parts.append(f'random by seed {self.seed}')
        if self.saliency is not None:
            parts.append(f'salient by {self.saliency.describe()}')
        return ', '.join(parts)

    def judge_batch(self, images: Tensor, data_batch: dict) -> list:
        ranks = {salient: self._ranks(salient, images, data_batch) for salient in self.orders}
        outputs: list = []
        # From the last to the first, which is what hooks are given: in the order of the defaults, whole images.
        for kind, ratio, keys in reversed(self.settings):
            hidden = kind.hide(ranks[kind.salient], ratio)
            outputs = self.judge(keys, occlude(images, hidden, self.grid), data_batch)
        return outputs

    def _ranks(self, salient: bool, images: Tensor, data_batch: dict) -> Tensor:
        if salient and self.saliency is not None:
            maps = self.saliency(images, data_batch['data_samples'])
            return salient_ranks(maps, self.grid, (images.size(2), images.size(3)))
        return random_ranks(sample_indices(data_batch), math.prod(self.grid), self.seed).to(images.device)
