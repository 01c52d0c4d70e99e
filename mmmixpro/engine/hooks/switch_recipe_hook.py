# Copyright (c) MMMixPro contributors.
from typing import Any

from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.registry import HOOKS

from mmmixpro.engine.unwrap import unwrap_model
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
        ValueError: Before training, if an augment of any recipe does not fit the classifier, or if a recipe has no
            epoch to begin at. What depends on the size of the images shows at the first batch.
    """

    def before_train(self, runner: Runner) -> None:
        """Check and prepare all recipes now rather than at their epochs; take up that of a resumed run."""
        model, loop = unwrap_model(runner), runner.train_loop
        late = [epoch for epoch in self.schedule if epoch > loop.max_epochs]
        if isinstance(loop, IterBasedTrainLoop) or late:
            found = 'counts iterations' if isinstance(loop, IterBasedTrainLoop) else f'ends at {loop.max_epochs}'
            raise ValueError(
                f'SwitchRecipeHook switches when the epochs {list(self.schedule)} begin, and this run {found}: '
                'expected train_cfg with by_epoch=True and at least as many max_epochs. Set action_epoch accordingly.'
            )
        for recipe in self.schedule.values():
            augment = recipe.get('batch_augments')
            if augment is None:
                continue
            mixers = [mixer for mixer in augment.augments if isinstance(mixer, BatchMixer)]
            if isinstance(model, MixClassifier):
                model.check_augments(augment)
            for mixer in mixers:
                if not isinstance(model, MixClassifier):
                    mixer.check_model(None)
                mixer.init_weights()
        super().before_train(runner)

    @staticmethod
    def _switch_batch_augments(runner: Runner, batch_augments: RandomBatchAugment | None) -> None:
        model: Any = unwrap_model(runner)
        if isinstance(model, MixClassifier):
            model.augment = batch_augments or RandomBatchAugment([], probs=[])
        else:
            SwitchRecipeHook._switch_batch_augments(runner, batch_augments)
            if batch_augments is not None:
                # Without one-hot labels mmpretrain passes the augments by.
                model.data_preprocessor.to_onehot = True
