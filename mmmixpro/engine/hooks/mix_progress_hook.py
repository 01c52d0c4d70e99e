# Copyright (c) MMMixPro contributors.
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import Tensor

from mmmixpro.engine.unwrap import unwrap_model
from mmmixpro.mixing import BatchMixer
from mmmixpro.models import MixClassifier
from mmmixpro.structures import MixPlan


class Seen(NamedTuple):
    """One batch.

    Attributes:
        augment: Name of what mixed it.
        num: Number of images.
        keys: What was measured, K values per image.
        moments: ``(2, K)`` float32, variance and mean over the images; on their device.
    """

    augment: str
    num: int
    keys: tuple[str, ...]
    moments: Tensor


@HOOKS.register_module()
class MixProgressHook(Hook):
    r"""Log how a :class:`~mmmixpro.models.MixClassifier` mixes and labels, over all images since the last line.

    ==================== ====================================================================================
    ``mix/acc``          share of the images whose top-1 class is the one that weighs most in their (mixed)
                         label, or one of those; on unmixed batches it is plain training accuracy
    ``mix/lam``          mean share of the pixels kept, :math:`\lambda_{area}`
    ``mix/lam_attn``     mean share of the class attention on them, :math:`\lambda_{attn}` (Eq. 5 of MixPro)
    ``mix/alpha``        mean of the progressive factor :math:`\alpha` (Eq. 8; Fig. 2a)
    ``mix/alpha_std``    its standard deviation over the images (Fig. 2b)
    ``mix/share_<name>`` share of the batches mixed by an augment, by its class; ``none``: left unmixed
    ==================== ====================================================================================

    All lie in [0, 1]. The lambdas and alpha are those of batches that an augment of this package mixed, for
    mmpretrain's own (``Mixup``, ``CutMix``) tell no lambda; they are left out of a line that has none, and where the
    labels know no such value.

    A batch takes eight small operators and no waiting: what is measured stays on the device, and is read at once, of
    all ranks, when the ``LoggerHook`` is about to log. Nothing is written into checkpoints: a run that is resumed
    within an epoch averages its first line over the images since. Other models are left alone.

    ``tools/analysis/plot_pal.py`` draws it. For TensorBoard::

        visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
    """

    def __init__(self) -> None:
        self._seen: list[Seen] = []
        self._loggers: list[LoggerHook] = []

    def before_train(self, runner: Runner) -> None:
        """Begin to watch, if anybody is going to log it."""
        model = unwrap_model(runner)
        self._loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        if isinstance(model, MixClassifier) and self._loggers:
            model.observer = self.observe

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        model = unwrap_model(runner)
        if isinstance(model, MixClassifier):
            model.observer = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Forget the batches after the last line of the epoch before, of which a resumed run knows nothing."""
        self._seen.clear()

    @torch.compiler.disable  # a list that grows would compile anew each time
    @torch.no_grad()
    def observe(
        self,
        augment: Callable | None,
        plan: MixPlan | None,
        logits: Tensor,
        target: Tensor,
        weights: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Measure a batch.

        Args:
            augment: What was to mix it; None if nothing.
            plan: How it was mixed; None for unmixed batches and augments without a plan.
            logits: ``(N, num_classes)``.
            target: ``(N, num_classes)`` labels of the loss.
            weights: Of both labels, as a label policy returned them.
        """
        top1 = target.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)
        values = dict(acc=top1 >= target.amax(1))
        if plan is not None:
            values['lam'] = plan.lam
        for key in ('lam_attn', 'alpha'):
            # A policy may return a plain tuple.
            value = getattr(weights, key, None)
            if value is not None:
                values[key] = value
        moments = torch.var_mean(torch.stack([value.float() for value in values.values()]), 1, correction=0)
        unmixed = plan is None and isinstance(augment, BatchMixer)
        name = _name(None if unmixed else augment)
        self._seen.append(Seen(name, len(logits), tuple(values), torch.stack(moments)))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Read, when a ``LoggerHook`` is about to log."""
        model = unwrap_model(runner)
        if not isinstance(model, MixClassifier) or not any(
            self._logs(runner, hook, batch_idx) for hook in self._loggers
        ):
            return
        augments, probs = model.augment.augments, model.augment.probs
        possible = [_name(augment) for i, augment in enumerate(augments) if probs is None or probs[i] > 0]
        logged = _summary(possible, all_gather_object(self._read()))
        # Not by `update_scalar`, which would save them, and keep what this line has no value for.
        scalars = runner.message_hub.log_scalars
        for key in [key for key in scalars if key.startswith('train/mix/')]:
            del scalars[key]
        scalars.update({f'train/mix/{key}': HistoryBuffer([value], [1]) for key, value in logged.items()})

    def _logs(self, runner: Runner, hook: LoggerHook, batch_idx: int) -> bool:
        """Whether a ``LoggerHook`` logs after this iteration."""
        loader = runner.train_dataloader
        last = self.end_of_epoch(loader, batch_idx) and (not hook.ignore_last or len(loader) <= hook.interval)
        return last or self.every_n_inner_iters(batch_idx, hook.interval)

    def _read(self) -> tuple[Counter, dict[str, np.ndarray]]:
        """Batches of each augment; and number, sum and sum of squares of each value. Forgets them."""
        batches = Counter(seen.augment for seen in self._seen)
        sums: dict[str, np.ndarray] = {}
        if self._seen:
            # All in one copy.
            moments = iter(torch.cat([seen.moments for seen in self._seen], 1).cpu().double().numpy().T)
            for seen in self._seen:
                for key in seen.keys:
                    var, mean = next(moments)
                    sums[key] = sums.get(key, 0) + seen.num * np.array([1, mean, var + mean**2])
            self._seen.clear()
        return batches, sums


def _summary(possible: list[str], ranks: list[tuple[Counter, dict[str, np.ndarray]]]) -> dict[str, float]:
    """What is logged, of what all ranks have seen; ``possible`` augments may have mixed no batch."""
    batches, sums = Counter(dict.fromkeys(possible, 0)), dict[str, np.ndarray]()
    for rank_batches, rank_sums in ranks:
        batches.update(rank_batches)
        for key, values in rank_sums.items():
            sums[key] = sums.get(key, 0) + values
    logged = {}
    for key, (num, total, squares) in sums.items():
        mean = total / num
        logged[key] = float(mean)
        if key == 'alpha':
            logged['alpha_std'] = float(max(squares / num - mean**2, 0) ** 0.5)
    total = max(sum(batches.values()), 1)
    return logged | {f'share_{name}': batches[name] / total for name in sorted(batches)}


def _name(augment: Callable | None) -> str:
    return 'none' if augment is None else type(augment).__name__
