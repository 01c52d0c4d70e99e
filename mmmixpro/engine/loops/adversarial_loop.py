# Copyright (c) MMMixPro contributors.
from collections.abc import Sequence

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmpretrain.registry import LOOPS, TASK_UTILS
from torch import Tensor
from torch.utils.data import DataLoader

from .attacks import Attack, pixel_gradients
from .settings_loop import SettingsTestLoop, sample_indices

CLEAN = 'adversarial/clean'


@LOOPS.register_module()
class AdversarialTestLoop(SettingsTestLoop):
    """Accuracy on images that are made to mislead the model under test.

    Results are ``adversarial/clean``, which is what the stock ``TestLoop`` gives, and ``adversarial/<name>`` of each
    attack. Gradients are those of the model in eval mode with respect to the pixels, see
    :func:`~mmmixpro.engine.loops.attacks.pixel_gradients`; parameters take none.

    Args:
        runner: The runner.
        dataloader: The data loader, or its config.
        evaluator: The evaluator of each setting, or its config.
        attacks: Configs of :class:`Attack`, in mmpretrain's ``TASK_UTILS``.
        fp16: Whether to predict with automatic mixed precision; images are attacked without.

    Raises:
        ValueError: If there is no attack, or if two have one name; when run, if images have other than one label.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        attacks: Sequence[dict] = (dict(type='FGSM'), dict(type='PGD')),
        fp16: bool = False,
    ):
        self.attacks: list[Attack] = [TASK_UTILS.build(attack) for attack in attacks]
        keys = [CLEAN, *(f'adversarial/{attack.name}' for attack in self.attacks)]
        if not self.attacks or len(set(keys)) < len(keys):
            raise ValueError(f'Expected attacks, each with a name of its own (name=...), got {keys[1:]} beside clean.')
        super().__init__(runner, dataloader, evaluator, keys, fp16)

    def describe(self) -> str:
        """Strength of the attacks."""
        attacks = '; '.join(attack.describe() for attack in self.attacks)
        return f'{attacks} (L-infinity, white box, cross entropy)'

    def judge_batch(self, images: Tensor, data_batch: dict) -> list:
        labels = [sample.get('gt_label') for sample in data_batch['data_samples']]
        if any(label is None or label.numel() != 1 for label in labels):
            raise ValueError('Expected one label for each image (gt_label): attacks lead away from it.')
        gradients = pixel_gradients(self.model, torch.cat(labels).to(images.device))
        for attack in self.attacks:
            attacked = attack(images.float(), gradients, sample_indices(data_batch))
            self.judge([f'adversarial/{attack.name}'], attacked, data_batch)
        # Last, for hooks are given what came last.
        return self.judge([CLEAN], images, data_batch)
