# Copyright (c) MMMixPro contributors.
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.registry import HOOKS
from torch import nn

from mmmixpro.mixing import BatchMixer
from mmmixpro.models import MixClassifier


@HOOKS.register_module(name='SwitchRecipeHook', force=True)
class MixSwitchRecipeHook(SwitchRecipeHook):
    """mmpretrain's ``SwitchRecipeHook``, for classifiers that mix by themselves too.

    mmpretrain's sets the augments of the data preprocessor, which our classifiers do not use: it
    would change nothing, and say it did. This one takes its place under its name. A resumed run
    takes up the recipe of its epoch.

    Example:
        >>> default_hooks = dict(
        ...     switch=dict(
        ...         type='SwitchRecipeHook',
        ...         schedule=[dict(action_epoch=281, batch_augments=None)],  # the last 20 of 300 unmixed
        ...     )
        ... )

    Raises:
        ValueError: Before training, if an augment of any recipe does not fit the classifier.
    """

    def before_train(self, runner: Runner) -> None:
        """Check and prepare all recipes now rather than at their epochs; take up that of a resumed run."""
        model = _unwrapped(runner)
        for recipe in self.schedule.values():
            augment = recipe.get('batch_augments')
            if augment is None:
                continue
            if isinstance(model, MixClassifier):
                model.check_augments(augment)
            for mixer in augment.augments:
                if isinstance(mixer, BatchMixer):
                    mixer.init_weights()
        super().before_train(runner)

    @staticmethod
    def _switch_batch_augments(runner: Runner, batch_augments: RandomBatchAugment | None) -> None:
        model = _unwrapped(runner)
        if isinstance(model, MixClassifier):
            model.augment = batch_augments or RandomBatchAugment([], probs=[])
        else:
            SwitchRecipeHook._switch_batch_augments(runner, batch_augments)


def _unwrapped(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
