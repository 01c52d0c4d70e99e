# Copyright (c) MMMixPro contributors.
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner, TestLoop
from mmengine.runner.amp import autocast
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import Tensor
from torch.utils.data import DataLoader

from mmmixpro.engine.unwrap import unwrap_model


class SettingEvaluators:
    """An evaluator for each setting.

    The first value of each stands under the setting's key, what else it may give under ``<key>/<name>``.

    Args:
        evaluator: The evaluator to copy.
        keys: Names of the settings.

    Raises:
        ValueError: If the predictions are to be dumped into one file.
    """

    def __init__(self, evaluator: Evaluator, keys: Sequence[str]):
        dumps = [metric for metric in evaluator.metrics if isinstance(metric, DumpResults)]
        if dumps:
            raise ValueError(
                f'{type(dumps[0]).__name__} writes one file, and there are predictions of {len(keys)} settings. Leave '
                'it out; for metrics alone: tools/test.py --out FILE.json'
            )
        self.evaluators = {key: deepcopy(evaluator) for key in keys}

    def evaluate(self, size: int) -> dict[str, float]:
        """Results of all settings, for ``size`` images."""
        metrics = {}
        for key, evaluator in self.evaluators.items():
            for index, (name, value) in enumerate(evaluator.evaluate(size).items()):
                metrics[f'{key}/{name}' if index else key] = value
        return metrics


class SettingsTestLoop(TestLoop):
    """Tests a classifier in several settings in one pass over the data.

    Args:
        runner: The runner.
        dataloader: The data loader, or its config; its images are uint8.
        evaluator: The evaluator of each setting, or its config.
        keys: Names of the settings in the results.
        fp16: Whether to predict with automatic mixed precision.

    Raises:
        ValueError: If the evaluator dumps predictions; when run, if the model is wrapped for test-time augmentation,
            or if images are not of one size, or not uint8.
    """

    evaluator: Any
    progress: Progress
    task: TaskID

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        keys: Sequence[str],
        fp16: bool = False,
    ):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.evaluator = SettingEvaluators(self.evaluator, keys)
        self.keys = list(keys)

    @property
    def model(self) -> Any:
        """The classifier itself."""
        return unwrap_model(self.runner)

    def describe(self) -> str:
        """What the figures depend on, in words."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Raise before the first batch what would fail at it."""
        if isinstance(self.model, BaseTTAModel):
            raise ValueError(f'{type(self).__name__} needs the images themselves: test without --tta.')

    def run(self) -> dict[str, float]:
        """Test.

        Returns:
            dict[str, float]: The result of each setting.
        """
        self.prepare()
        self.runner.logger.info(f'{type(self).__name__}: {self.describe()}')
        self.runner.message_hub.update_info(type(self).__name__, self.describe())
        with Progress(console=Console(stderr=True), disable=not is_main_process()) as self.progress:
            self.task = self.progress.add_task('settings', total=len(self.dataloader) * len(self.keys))
            return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Test a batch in all settings. Hooks are given the predictions of the last one judged."""
        self.runner.call_hook('before_test_iter', batch_idx=idx, data_batch=data_batch)
        outputs = self.judge_batch(self.raw_images(data_batch), data_batch)
        self.runner.call_hook('after_test_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def judge_batch(self, images: Tensor, data_batch: dict) -> list:
        """Call :meth:`judge` for each setting.

        Args:
            images: ``(N, C, H, W)`` uint8, on the model's device.
            data_batch: The batch that they are of.

        Returns:
            list: The predictions for hooks.
        """
        raise NotImplementedError

    def judge(self, keys: Iterable[str], images: Tensor, data_batch: dict) -> list:
        """Predict as the stock loop does, and evaluate that under each of the keys.

        Args:
            keys: Settings that share these images.
            images: ``(N, C, H, W)`` in the range of pixels.
            data_batch: The batch that they are of.

        Returns:
            list: The predictions.
        """
        data_batch = {**data_batch, 'inputs': images}
        with autocast(enabled=self.fp16):
            outputs = self.runner.model.test_step(data_batch)
        for key in keys:
            self.evaluator.evaluators[key].process(data_samples=outputs, data_batch=data_batch)
            self.progress.advance(self.task)
        return outputs

    def raw_images(self, data_batch: dict) -> Tensor:
        """The images as the pipeline leaves them, on the model's device: ``(N, C, H, W)`` uint8."""
        inputs: Any = data_batch['inputs']
        if not isinstance(inputs, Tensor):
            shapes = sorted({tuple(image.shape) for image in inputs})
            if len(shapes) > 1:
                raise ValueError(f'Expected images of one size, found {shapes}. Resize and crop them in the pipeline.')
            inputs = torch.stack(list(inputs))
        if inputs.dtype != torch.uint8:
            raise ValueError(
                f'Expected uint8 images, as they are before normalisation, got {inputs.dtype}. Leave normalisation to '
                'data_preprocessor (mean, std), out of the pipeline.'
            )
        return self.model.data_preprocessor.cast_data(inputs)


def sample_indices(data_batch: dict) -> list[int]:
    """Which images of the dataset a batch has: draws for an image depend on it alone.

    Raises:
        ValueError: If the samples do not say.
    """
    samples = data_batch['data_samples']
    if any('sample_idx' not in sample for sample in samples):
        raise ValueError(
            'Expected each sample to know its place in the dataset (sample_idx), for what is drawn for it is to be the '
            "same in any order. Take a dataset of mmengine, and PackInputs with 'sample_idx' among its meta_keys."
        )
    return [int(sample.sample_idx) for sample in samples]
