# Copyright (c) MMMixPro contributors.
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from mmmixpro.engine import preflight


@HOOKS.register_module()
class PreflightHook(Hook):
    """Refuse, before the first step, a run that would waste its hours.

    What can be told from the config alone ``tools/train.py`` has refused earlier already; a stock
    tool gets this hook's checks only.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Check the config: before weights are initialised, on every rank."""
        preflight.check_method(runner.cfg)

    def before_train(self, runner: Runner) -> None:
        """Check data against heads and activation maps; warn of a batch size that the learning rate is not made for."""
        preflight.check_dataset(runner.train_dataloader.dataset, runner.model)
        preflight.check_content_maps(runner.train_dataloader.dataset)
        preflight.warn_batch_size(runner)

    def before_test(self, runner: Runner) -> None:
        """Check data against heads."""
        preflight.check_dataset(runner.test_dataloader.dataset, runner.model)
