# Copyright (c) MMMixPro contributors.
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmpretrain.apis import ImageClassificationInferencer
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from mmmixpro.attention import class_attention, class_attention_of
from mmmixpro.visualization.attention import draw_attention as draw
from mmmixpro.visualization.mixed import shorten, to_rgb

from .model import get_model, load_checkpoint


def _swap_channels(results: dict) -> dict:
    return {**results, 'img': np.ascontiguousarray(results['img'][..., ::-1])}


class ClassificationInferencer(ImageClassificationInferencer):
    """mmpretrain's ``ImageClassificationInferencer`` for our configs by name, loading strictly, with class attention.

    Args:
        model: As :func:`~mmmixpro.apis.get_model` takes it, or a classifier that it has returned.
        pretrained: Likewise; of a classifier, True and False leave its weights as they are.
        device: Where to run; None leaves the model where it is.
        classes: Name of each class; None takes those of the checkpoint, or of the config's dataset.
        **kwargs: Settings of the model that override the config's.

    Example:
        >>> inferencer = ClassificationInferencer('mixpro/deit-s', 'work_dirs/mixpro/deit-s_8xb128_in1k/epoch_300.pth')
        >>> (result,) = inferencer('cat.jpg', draw_attention=True, show_dir='drawn')
        >>> result['pred_class'], result['class_attention'].shape
        ('tabby, tabby cat', (14, 14))

    Raises:
        ValueError: See :func:`~mmmixpro.apis.get_model`.
        FileNotFoundError: If there is no checkpoint.
    """

    # Of both: mmpretrain gives an option to each method that lists it.
    forward_kwargs = {'draw_attention'}
    visualize_kwargs = ImageClassificationInferencer.visualize_kwargs | {'draw_attention'}

    def __init__(
        self,
        model: str | PathLike | Config | BaseModel,
        pretrained: str | bool = True,
        device: str | torch.device | None = None,
        classes: list[str] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(model, BaseModel):
            model = get_model(model, pretrained, device, **kwargs)
        elif not isinstance(pretrained, bool):
            load_checkpoint(model, pretrained)
        super().__init__(model, pretrained=False, device=device, classes=classes)

    def _init_pipeline(self, cfg: Config) -> Callable:
        pipeline = super()._init_pipeline(cfg)
        # What a dataset brings along in memory (CIFAR) is RGB, what is read here is BGR.
        loads = [step['type'] == 'LoadImageFromFile' for step in cfg.test_dataloader.dataset.pipeline]
        self.in_memory = not any(loads)
        return Compose([_swap_channels, pipeline]) if self.in_memory else pipeline

    def __call__(self, inputs: Any, *args: Any, draw_attention: bool = False, **kwargs: Any) -> list:
        """Classify images.

        Args:
            inputs: An image (a path, or ``(H, W, 3)`` uint8 in BGR), a list of them, or a folder.
            *args: See ``ImageClassificationInferencer``.
            draw_attention: Whether to return ``class_attention`` ``(h, w)`` float32, which sums to 1, with each result,
                and to draw it, in ``show_dir`` or a window, over the image as the classifier sees it: resized and
                cropped as in the config's test.
            **kwargs: See ``ImageClassificationInferencer``.

        Returns:
            list: For each image, a dict of ``pred_scores``, ``pred_label``, ``pred_score`` and, if the names of the
            classes are known, ``pred_class``; or a sample, with ``return_datasamples``.

        Raises:
            ValueError: If attention is asked for, and the backbone has no class attention, or together with options
                that are of the other drawing.
        """
        if draw_attention:
            class_attention_of(self.model.backbone)
            unused = {'resize', 'rescale_factor', 'draw_score'} & kwargs.keys()
            if unused:
                raise ValueError(f'draw_attention draws at one size, with the score: leave {sorted(unused)} out.')
        if kwargs.get('show_dir') is not None:
            Path(kwargs['show_dir']).mkdir(parents=True, exist_ok=True)
        return super().__call__(inputs, *args, draw_attention=draw_attention, **kwargs)

    @torch.no_grad()
    def forward(self, inputs: dict, draw_attention: bool = False) -> list[DataSample]:
        """Predict; with ``draw_attention``, samples have ``class_attention`` and ``seen``, the image it belongs to."""
        if not draw_attention:
            return super().forward(inputs)
        data = self.model.data_preprocessor(inputs, training=False)
        images = data['inputs']
        with class_attention(self.model.backbone, images.shape[-2:]) as tap:
            samples = self.model(**data, mode='predict')
        assert tap.map is not None
        seen = to_rgb(images, self.model.data_preprocessor, self.in_memory)
        for sample, attention, image in zip(samples, tap.map.cpu().numpy(), seen, strict=True):
            sample.set_field(attention, 'class_attention')
            sample.set_field(image, 'seen')
        return samples

    def visualize(
        self,
        ori_inputs: list,
        preds: list[DataSample],
        show: bool = False,
        wait_time: int = 0,
        show_dir: str | None = None,
        draw_attention: bool = False,
        **kwargs: Any,
    ) -> list[np.ndarray] | None:
        """Draw predictions, as ``ImageClassificationInferencer`` does or with class attention."""
        if not draw_attention:
            return super().visualize(ori_inputs, preds, show, wait_time, show_dir=show_dir, **kwargs)
        if not show and show_dir is None:
            return None
        drawn = []
        for i, (image, sample) in enumerate(zip(ori_inputs, preds, strict=True)):
            label = int(sample.pred_score.argmax())
            name = str(label) if self.classes is None else self.classes[label]
            caption = f'{shorten(name)}\n{float(sample.pred_score[label]):.2f}'
            png = draw(sample.seen, sample.class_attention, caption)
            stem = Path(image).stem if isinstance(image, str) else str(i)
            if show_dir is not None:
                Path(show_dir, f'{stem}.png').write_bytes(png)
            drawn.append(mmcv.imfrombytes(png, channel_order='rgb'))
            if show:
                UniversalVisualizer.get_instance('attention').show(drawn[-1], win_name=stem, wait_time=wait_time)
        return drawn

    def postprocess(self, preds: list[DataSample], visualization: Any, return_datasamples: bool = False) -> list:
        """Results as dicts, with the class attention that was asked for."""
        results = super().postprocess(preds, visualization, return_datasamples)
        if not return_datasamples:
            for result, sample in zip(results, preds, strict=True):
                if 'class_attention' in sample:
                    result['class_attention'] = sample.class_attention
        return results
