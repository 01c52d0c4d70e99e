# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan


@MODELS.register_module()
class ContentLabels(nn.Module):
    r"""Weigh each label by how much of what shows it is left, as TokenMix does.

    `TokenMix <https://arxiv.org/abs/2207.08409>`_: with :math:`A` the teacher's activation map of an image before
    mixing, normalised to sum 1, and :math:`M` the mask,

    .. math:: w_i = \sum A_i \odot M, \quad w_j = \sum A_j \odot (1 - M)

    These are independent: both objects can be in sight, with weights up to 2 in all, or neither. Where the teacher sees
    nothing of a label anywhere in its image, area counts in place of content (in the released code: nothing does).

    Other than in the released code, which resamples the map to the grid of the mask, each position of the map counts
    by the area that is shown of it, and label smoothing is left to the loss, which scales both weights by
    :math:`1 - \epsilon` (there: subtracts :math:`\epsilon / 2` from each).
    """

    needs_attention = False
    needs_content = True

    def forward(self, plan: MixPlan, attention: Tensor | None, logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AreaLabels.forward`; the plan brings the content, see :class:`~mmmixpro.mixing.TokenMixPlan`.

        Raises:
            ValueError: If the plan has no content.
        """
        content: Tensor | None = getattr(plan, 'content', None)
        if content is None:
            raise ValueError(
                'ContentLabels expects a plan with content, as TokenMix draws it, and found none. Take TokenMix for '
                'the mixer, or other labels.'
            )
        total = content.sum((1, 2), keepdim=True)
        content = torch.where(total > 0, content / total, 1 / content[0].numel())
        coverage = plan.coverage(content.size(1), content.size(2))
        return (content * coverage).sum((1, 2)), (content[plan.partner] * (1 - coverage)).sum((1, 2))
