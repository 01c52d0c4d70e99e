# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn
from torch.nn import functional as F

from mmmixpro.structures import MixPlan

from .base import CellMixer
from .masks import random_partners
from .teacher import FrozenTeacher


@BATCH_AUGMENTS.register_module()
class AttentiveCutMix(CellMixer):
    r"""CutMix of the cells to which a frozen network attends most.

    `Attentive CutMix: An Enhanced Data Augmentation Approach for Deep Learning Based Image Classification
    <https://arxiv.org/abs/2003.13048>`_: :math:`x = B \odot x_1 + (1 - B) \odot x_2`,
    :math:`y = \lambda y_1 + (1 - \lambda) y_2`. The last feature map of a pretrained ResNet-50 is 7 x 7 for images of
    224 px; :math:`B` shows the 6 cells of the partner :math:`x_1` where it is highest, 32 x 32 px each, at the same
    place in image ``i``; :math:`\lambda = 6/49`, their share of the area.

    The paper does not say how the channels become one map; here they are averaged, as OpenMixup does.

    Args:
        teacher: Config of the teacher, a backbone of mmpretrain's that gives feature maps, see
            :class:`~mmmixpro.mixing.teacher.FrozenTeacher`. Its weights are loaded when training begins, by
            ``init_cfg=dict(type='Pretrained', checkpoint=..., strict=True)``.
        mask_size: Side of a mask cell in pixels; a map of another size is averaged into these cells. Where it does
            not divide the image, the last row and column of cells are cropped, and count less.
        top_k: Number of cells pasted.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: See :class:`CellMixer`; or if ``teacher`` is no config, ``top_k`` no positive integer, or, at the
            first batch, if there are fewer cells than that.
        FileNotFoundError: From :meth:`init_weights`, if the teacher's checkpoint is missing.
    """

    def __init__(self, teacher: dict, mask_size: int = 32, top_k: int = 6, prob: float = 1.0):
        super().__init__(mask_size, prob)
        if not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f'top_k is the number of cells pasted, a positive integer; got {top_k!r}.')
        self.teacher = FrozenTeacher(teacher)
        self.top_k = top_k

    def init_weights(self) -> None:
        """Build the teacher and load its weights."""
        self.teacher.init_weights_for(self, 'a network trained on ImageNet', 'ATTENTIVE_CUTMIX_TEACHER')

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        grid = self.grid(height, width)
        cells = grid[0] * grid[1]
        if self.top_k > cells:
            raise ValueError(
                f'top_k={self.top_k} cells, but mask_size={self.mask_size} makes {cells} of images of {height} x '
                f'{width} px. Set a smaller mask_size, or a top_k of about an eighth of the cells.'
            )
        attention = F.adaptive_avg_pool2d(self.teacher(images).float().mean(1), grid)
        partner = random_partners(num, images.device)
        pasted = attention[partner].flatten(1).topk(self.top_k).indices
        mask = torch.ones(num, cells, dtype=torch.bool, device=images.device).scatter_(1, pasted, False)
        return MixPlan(partner, mask.view(num, *grid), self.mask_size, (height, width))
