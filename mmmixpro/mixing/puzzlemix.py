# Copyright (c) MMMixPro contributors.
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .graph_cut import min_cut, require_solvers, transport
from .masks import random_partners
from .modes import BetaLam
from .puzzle_terms import border_terms, cell_saliency, to_colours

POOL = 2  # px, side of the windows whose colours are compared; the released code's for ImageNet
EPS = 1e-8  # of the prior, as released


@dataclass(frozen=True)
class PuzzleMixPlan(MixPlan):
    """A plan whose cells may show both images, one over the other, and both of them moved.

    ``coverage`` and ``pixel_mask`` say how much of a token or pixel shows image ``i``, from wherever in it.

    Args:
        mask: ``(N, gh, gw)`` float32 in [0, 1], how much of what each cell shows is of image ``i``.
        gather: ``(N, gh * gw)`` int64, the cell of the partner that moves to each place.
        own_gather: ``(N, gh * gw)`` int64, likewise of image ``i``.
    """

    own_gather: Tensor = None  # type: ignore[assignment]

    @torch.no_grad()
    def mix_images(self, images: Tensor) -> Tensor:
        """Mix images, leaving the input as it is; two batches of memory, one of which stays.

        Args:
            images: ``(N, C, H, W)``, any floating dtype and memory format.

        Returns:
            Tensor: ``(N, C, H, W)``, newly allocated.
        """
        grid = self.mask.shape
        assert self.gather is not None
        own = torch.arange(len(images), device=images.device)
        mixed = self._take_cells(images, own[:, None, None], self.own_gather.view(grid))
        other = self._take_cells(images, self.partner[:, None, None], self.gather.view(grid))
        seen, covers = (x.unflatten(3, (-1, self.cell)).unflatten(2, (-1, self.cell)) for x in (mixed, other))
        seen.lerp_(covers, (1 - self.mask).to(images.dtype)[:, None, :, None, :, None])
        return mixed


@BATCH_AUGMENTS.register_module()
class PuzzleMix(BatchMixer):
    r"""Salient cells of two images, moved and cut out so that both can be seen.

    `Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup <https://arxiv.org/abs/2009.06962>`_,
    Sec. 4: :math:`x = z \odot \Pi_0^T x_0 + (1 - z) \odot \Pi_1^T x_1`, where the masks :math:`z_p \in \{0, 1/m, ...,
    1\}` of :math:`n` cells and the permutations :math:`\Pi_k` of cells make least

    .. math::
        - \| z \odot \Pi_0^T s_0 \|_1 - \| (1 - z) \odot \Pi_1^T s_1 \|_1
        + \beta \sum_{p \sim q} (z_p - z_q)^2 + \beta \gamma \sum_{p \sim q} \phi_{pq}(z_p, z_q)
        - \eta \sum_p \log B(z_p) + \xi \sum_k \langle \Pi_k, C \rangle

    first in :math:`z`, nothing moved, then in :math:`\Pi_k`. :math:`s_k` is the saliency of a cell, the norm of the
    gradient of the loss with respect to the unmixed images, of sum 1; :math:`\phi` the difference of colours across
    the border of two cells; :math:`B` binomial, of mean :math:`\lambda \sim Beta(\alpha, \alpha)`, one for the batch;
    :math:`C` the squared distance moved. The labels weigh the mean of :math:`z`. Scales are those of the released
    code for ImageNet: of :math:`g \times g` cells :math:`\beta` is divided by :math:`16 g`, :math:`\eta` by
    :math:`n`, :math:`C` by :math:`(g - 1)^2`; :math:`g` is drawn per batch from 2, 4, 8 and 16.

    A second forward pass in eval mode, of the unmixed images, and a backward pass from the loss to the images
    alone: the gradients of the parameters stay as they are. The host waits for the device once a batch, for one copy
    of what both problems need, solves them there, and copies the plan back: about a tenth of a second for 128 images
    of 16 x 16 cells, much less for larger cells. Checkpointing of activations that re-enters autograd (``with_cp`` of
    some backbones) does not allow such a gradient.

    Deviations:

    - :math:`z` is the global minimum for any number of labels, by one cut (see
      :func:`~mmmixpro.mixing.graph_cut.min_cut`); the paper's alpha-beta swap finds a local one;
    - :math:`\Pi_k` is the optimal assignment, where the paper iterates towards one, and the released code stops
      after :math:`g` rounds, with holes in the image if it has not converged. To the optimum the way of the cell
      that makes room counts as well, so that cells move more seldom than by those rounds. A place where :math:`z_p`
      is between 0 and 1 gains :math:`z_p` of what is moved there, as the objective has it; in the released code,
      all of it;
    - saliency is the gradient of the classifier's own loss, with its label smoothing; an image without any gradient
      is salient everywhere alike;
    - the grid is that of square cells: ``gcd(H, W)`` is halved as long as the shorter side has ``max_blocks`` at
      most, which for square images gives the released ones. :math:`g` is :math:`\sqrt n` of an oblong grid in the
      scale of :math:`\beta`, and its longer side in that of :math:`C`.

    Args:
        alpha: Parameter of the Beta distribution; positive.
        n_labels: Values that a cell of the mask may take, :math:`m + 1`; at least 2.
        beta: :math:`\beta`, weight of smooth masks; at least 0.
        gamma: :math:`\gamma`, weight of borders that do not show, relative to ``beta``; in [0, 1].
        eta: :math:`\eta`, weight of the prior; at least 0.
        xi: :math:`\xi`, weight of the distance moved; positive.
        min_blocks: Least number of cells along the shorter side; at least 2.
        max_blocks: Largest such number.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ImportError: If PyMaxflow or SciPy is missing.
        ValueError: If an argument is out of its range, if the classifier around it is not ``MixClassifier`` or of
            its kind, or, at the first batch, if no such grid fits the images.
    """

    guided = True
    needs_labels = True

    def __init__(
        self,
        alpha: float = 1.0,
        n_labels: int = 3,
        beta: float = 1.2,
        gamma: float = 0.5,
        eta: float = 0.2,
        xi: float = 0.8,
        min_blocks: int = 2,
        max_blocks: int = 16,
        prob: float = 1.0,
    ):
        super().__init__(prob)
        if not isinstance(n_labels, int) or n_labels < 2:
            raise ValueError(f'n_labels is how many values the mask takes, an integer of 2 or more; got {n_labels!r}.')
        if not (beta >= 0 and eta >= 0 and 0 <= gamma <= 1 and xi > 0):
            raise ValueError(
                'The weights of the energy are beta >= 0, gamma in [0, 1], eta >= 0 and xi > 0; got '
                f'beta={beta}, gamma={gamma}, eta={eta}, xi={xi}.'
            )
        if not 2 <= min_blocks <= max_blocks:
            raise ValueError(
                'The grid has 2 <= min_blocks <= max_blocks cells along the shorter side; got '
                f'min_blocks={min_blocks}, max_blocks={max_blocks}.'
            )
        require_solvers()
        self.lam = BetaLam(alpha)
        self.n_labels = n_labels
        self.beta = beta
        self.gamma = gamma
        self.eta = eta
        self.xi = xi
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks

    def check_model(self, model: Any) -> None:
        if not hasattr(model, 'image_gradients'):
            found = "mmpretrain's own" if model is None else type(model).__name__
            raise ValueError(
                'PuzzleMix is guided by the gradient of the model under training: it expects the classifier to be '
                f"MixClassifier, found {found}. Set model.type='MixClassifier' and move the augment to model.train_cfg."
            )

    def draw(self, images: Tensor, model: Any = None, scores: Tensor | None = None) -> PuzzleMixPlan:
        """Draw the plan of a batch.

        Args:
            images: ``(N, C, H, W)``, normalised by ``model.data_preprocessor`` or in [0, 255].
            model: A classifier whose ``image_gradients(images, scores)`` are the gradients of its loss, as
                :meth:`MixClassifier.image_gradients`'s.
            scores: ``(N, num_classes)`` labels.
        """
        self.check_model(model)
        if scores is None:
            raise ValueError('PuzzleMix looks for what shows the label: expected scores (N, num_classes), got None.')
        cell = self._draw_cell(images.size(2), images.size(3))
        (lam,) = self.lam(1)
        partner = random_partners(len(images), images.device)
        gradients = model.image_gradients(images, scores)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            saliency = cell_saliency(gradients, cell)
            slope, down, right = self._energy(to_colours(images, model), saliency, partner, cell)
            terms = [slope, down, right, saliency, saliency[partner]]
            # All that the host needs, in one copy.
            packed = torch.cat([term.flatten(1) for term in terms], 1).cpu().double()
        sizes = [term[0].numel() for term in terms]
        unpacked = [x.reshape(term.shape).numpy() for x, term in zip(packed.split(sizes, 1), terms, strict=True)]
        solved = self._solve(lam, *unpacked)
        labels, own, other = torch.from_numpy(solved).to(images.device, non_blocking=True).unbind(1)
        return PuzzleMixPlan(
            partner=partner,
            mask=labels.view_as(saliency) / (self.n_labels - 1),
            cell=cell,
            size=(images.size(2), images.size(3)),
            gather=other,
            own_gather=own,
        )

    def _draw_cell(self, height: int, width: int) -> int:
        """Side of the cells of one of the grids, in pixels."""
        shared, shorter = math.gcd(height, width), min(height, width)
        halved = [shared >> k for k in range(shared.bit_length()) if shared % (1 << k) == 0]
        cells = [cell for cell in halved if self.min_blocks <= shorter // cell <= self.max_blocks]
        if not cells:
            raise ValueError(
                f'No grid of {self.min_blocks} to {self.max_blocks} square cells a side fits images of {height} x '
                f'{width} px: expected sides that share a divisor, such as 224 x 224. Resize the images, or set '
                'min_blocks and max_blocks of PuzzleMix in train_cfg.augments.'
            )
        return cells[np.random.randint(len(cells))]

    def _energy(self, colours: Tensor, saliency: Tensor, partner: Tensor, cell: int) -> tuple[Tensor, Tensor, Tensor]:
        """Terms of the energy that depend on the images, as :func:`min_cut` takes them, but for the prior."""
        pool = math.gcd(cell, POOL)
        small = F.avg_pool2d(colours, pool)
        beta = self.beta / 16 / math.sqrt(saliency[0].numel())
        slope = saliency[partner] - saliency
        weights = []
        # Down, and to the right, where rows and columns change places.
        for seen, colour in ((slope, small), (slope.mT, small.mT)):
            first, second, both = (beta * self.gamma * x for x in border_terms(colour, partner, cell // pool))
            seen[:, :-1] += first
            seen[:, 1:] += second
            # Colours out of their range could turn it below 0.
            weights.append((beta + both).clamp(min=0))
        return slope, weights[0], weights[1].mT

    def _solve(
        self, lam: float, slope: ndarray, down: ndarray, right: ndarray, saliency: ndarray, others: ndarray
    ) -> ndarray:
        """``(N, 3, n)`` int64: the labels of the mask, and the cells that move to each place, of both images."""
        num, gh, gw = slope.shape
        top = self.n_labels - 1
        chances = [math.comb(top, t) * lam**t * (1 - lam) ** (top - t) for t in range(top + 1)]
        prior = -self.eta / (gh * gw) * np.log(np.array(chances) + EPS)
        labels = min_cut(slope, prior, down, right).reshape(num, -1)
        places = np.stack(np.divmod(np.arange(gh * gw), gw), 1)
        distance = ((places[:, None] - places) ** 2).sum(-1) / (max(gh, gw) - 1) ** 2
        own = transport(saliency.reshape(num, -1), labels / top, self.xi * distance)
        other = transport(others.reshape(num, -1), 1 - labels / top, self.xi * distance)
        return np.stack([labels, own, other], 1)
