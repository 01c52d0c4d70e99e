# Copyright (c) MMMixPro contributors.
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixPlan:
    """Who is shown where in a batch of mixed images: drawn once, then applied to any tensor.

    Legend: ``N`` images, ``gh x gw`` mask cells, ``H x W`` pixels, ``h x w`` tokens.

    Args:
        partner: ``(N,)`` int64, the image that is mixed into image ``i``.
        mask: ``(N, gh, gw)`` bool, True keeps image ``i``, False shows its partner; or
            ``(1, gh, gw)`` where all images share one mask.
        cell: Side of a mask cell in pixels (1 for boxes). Where it does not divide the image,
            the last row and column of cells are cropped by the image's border.
        size: ``(H, W)`` of the images in pixels.
        lam: ``(N,)`` float32 in [0, 1], how much of image ``i`` is left. None computes the share of
            pixels kept, i.e. the mean of the pixel mask (lambda_area below Eq. 7 of MixPro).
        gather: ``(N, gh * gw)`` int64, where partners are not shown in their own place: the cell of the
            partner that each cell shows where the mask is False, row by row. Cells must divide the
            image then. None shows each cell in its place.
    """

    partner: Tensor
    mask: Tensor
    cell: int
    size: tuple[int, int]
    lam: Tensor = None  # type: ignore[assignment]
    gather: Tensor | None = None

    def __post_init__(self) -> None:
        grid = tuple(-(-side // self.cell) for side in self.size)
        assert self.mask.shape[1:] == grid, (self.mask.shape, grid)
        assert len(self.mask) in (1, len(self.partner)), self.mask.shape
        if self.gather is not None:
            assert self.gather.shape == (len(self.partner), math.prod(grid)), self.gather.shape
            assert not any(side % self.cell for side in self.size), (self.size, self.cell)
        if self.lam is None:
            object.__setattr__(self, 'lam', self._pixel_share())

    def _pixel_share(self) -> Tensor:
        """``(N,)`` mean of the pixel mask; exact, for it counts pixels as integers."""
        heights, widths = (self._spans(side, self.mask.device) for side in self.size)
        kept = (self.mask * (heights[:, None] * widths)).sum((1, 2))
        return (kept / (self.size[0] * self.size[1])).expand(len(self.partner))

    def _spans(self, side: int, device: torch.device) -> Tensor:
        """Length in pixels of each cell along one side of the image."""
        starts = torch.arange(0, side, self.cell, device=device)
        return (side - starts).clamp(max=self.cell)

    def pixel_mask(self, rows: int = 1) -> Tensor:
        """The mask in the resolution of the images.

        Args:
            rows: Take one of so many rows of pixels; they must divide the cell and the height.

        Returns:
            Tensor: ``(N, H / rows, W)`` or ``(1, H / rows, W)`` bool.
        """
        height, width = self.size
        # Copying cells beats indexing them, and the border crops the last row and column.
        mask = self.mask.repeat_interleave(self.cell // rows, 1)[:, : height // rows]
        return mask.repeat_interleave(self.cell, 2)[:, :, :width]

    @torch.no_grad()
    def mix_images(self, images: Tensor) -> Tensor:
        """Mix images as ``M * x_i + (1 - M) * x_j`` (Eq. 7 of MixPro), leaving the input as it is.

        Args:
            images: ``(N, C, H, W)``, any dtype and memory format.

        Returns:
            Tensor: ``(N, C, H, W)``, newly allocated; the only copy of the batch that is made.
        """
        if self.gather is not None:
            return self._move_cells(images, self.gather)
        mixed = images[self.partner]
        # So many rows of pixels share a row of the mask, which is not spelled out for each.
        rows = math.gcd(self.cell, self.size[0])
        own, other = (tensor.unflatten(2, (-1, rows)) for tensor in (images, mixed))
        torch.where(self.pixel_mask(rows)[:, None, :, None], own, other, out=other)
        return mixed

    def _move_cells(self, images: Tensor, gather: Tensor) -> Tensor:
        """Take each cell from its image and its place."""
        device, (gh, gw) = images.device, self.mask.shape[1:]
        own = torch.arange(len(images), device=device)[:, None, None]
        image = torch.where(self.mask, own, self.partner[:, None, None])
        place = torch.where(self.mask, torch.arange(gh * gw, device=device).view(gh, gw), gather.view(-1, gh, gw))
        return self._take_cells(images, image, place)

    def _take_cells(self, images: Tensor, image: Tensor, place: Tensor) -> Tensor:
        """Images of the cells ``place`` of the images ``image``, in one indexing of cells, rows of them whole.

        Args:
            images: ``(N, C, H, W)``.
            image: ``(N, gh, gw)`` int64, or ``(N, 1, 1)``.
            place: ``(N, gh, gw)`` int64, cells row by row.
        """
        device, cell, (gh, gw) = images.device, self.cell, self.mask.shape[1:]
        # Indices of (N, C, gh, rows of a cell, gw); the columns of a cell stay together.
        image, place = image[:, None, :, None], place[:, None, :, None]
        channel = torch.arange(images.size(1), device=device)[:, None, None, None]
        row = torch.arange(cell, device=device)[:, None]
        blocks = images.unflatten(3, (gw, cell)).unflatten(2, (gh, cell))
        mixed = blocks[image, channel, place // gw, row, place % gw]
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return mixed.flatten(4).flatten(2, 3).contiguous(memory_format=layout)

    def mix_scores(self, scores: Tensor, w_i: Tensor, w_j: Tensor) -> Tensor:
        """Weigh both labels of each mixed image: ``w_i * y_i + w_j * y_j``.

        Args:
            scores: ``(N, C)`` label scores of the images before mixing.
            w_i: ``(N,)`` weight of image ``i``'s own label.
            w_j: ``(N,)`` weight of its partner's label.

        Returns:
            Tensor: ``(N, C)``.
        """
        return w_i[:, None] * scores + w_j[:, None] * scores[self.partner]

    def coverage(self, h: int, w: int, nearest: bool = False) -> Tensor:
        """How much of each token shows image ``i``: the mask seen on an ``h x w`` token grid.

        Args:
            h: Rows of the token grid; the image's height is divided evenly among them.
            w: Columns of the token grid.
            nearest: Read the mask at each token's first pixel, as nearest-neighbour interpolation
                does (Eq. 5 of MixPro, TransMix), instead of averaging over the token's area. Both
                agree when every mask cell covers whole tokens, as MaskMix's do.

        Returns:
            Tensor: ``(N, h, w)`` float32 in [0, 1].
        """
        rows = self._reader(self.size[0], h, nearest)
        columns = self._reader(self.size[1], w, nearest)
        return (rows @ self.mask.float() @ columns.T).expand(len(self.partner), -1, -1)

    def _reader(self, side: int, count: int, nearest: bool) -> Tensor:
        """``(count, cells)`` float32: how much of each token lies in each cell along one side."""
        starts = torch.arange(0, side, self.cell, device=self.mask.device)
        ends = starts + self._spans(side, self.mask.device)
        edges = torch.arange(count + 1, device=self.mask.device, dtype=torch.float64) * side / count
        if nearest:
            pixel = edges[:-1, None].floor()
            return ((starts <= pixel) & (pixel < ends)).float()
        overlap = torch.minimum(edges[1:, None], ends) - torch.maximum(edges[:-1, None], starts)
        return (overlap.clamp(min=0) * count / side).float()
