# Copyright (c) MMMixPro contributors.
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS
from torch import Tensor

from mmmixpro.structures import MixPlan

from .progressive import ProgressiveAttentionLabels


@MODELS.register_module()
class ScheduledAttentionLabels(ProgressiveAttentionLabels):
    r"""Trust attention as far as training has come: :math:`\alpha = (T / T_{max})^p`.

    Table 10 of `MixPro <https://arxiv.org/abs/2304.12043>`_, its linear (``power=1``) and parabolic
    (``power=2``) increments. The paper counts epochs, this counts iterations, which the runner
    keeps in mmengine's message hub: the factor needs no state of its own, and a resumed run goes on.

    Args:
        power: Exponent :math:`p`; positive.
        nearest: See :class:`ProgressiveAttentionLabels`.

    Raises:
        ValueError: If ``power`` is out of its range.
        RuntimeError: From :meth:`confidence`, if no runner counts iterations.
    """

    def __init__(self, power: float = 1.0, nearest: bool = False):
        super().__init__(nearest=nearest)
        if power <= 0:
            raise ValueError(f'power of (T / T_max)^power must be positive, got {power}.')
        self.power = power

    def confidence(self, plan: MixPlan, logits: Tensor, scores: Tensor) -> Tensor:
        """The progressive factor, ``(N,)`` in [0, 1], the same for all images."""
        hub = MessageHub.get_current_instance()
        done, total = hub.get_info('iter'), hub.get_info('max_iters')
        if done is None or not total:
            raise RuntimeError(
                'ScheduledAttentionLabels follows the iterations of a runner, and none is training. Train with '
                "tools/train.py, or set 'iter' and 'max_iters' in mmengine's MessageHub."
            )
        return logits.new_full((len(logits),), (done / total) ** self.power)
