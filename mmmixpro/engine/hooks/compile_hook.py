# Copyright (c) MMMixPro contributors.
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from mmmixpro.engine.unwrap import unwrap_model


def compile_parts(model: Any, **options: Any) -> None:
    """Compile the backbone, neck and head of a classifier in place.

    Mixing and labels stay outside: they draw at random and take a few small kernels. In place means
    that names of parameters, checkpoints and ``type(model.backbone)`` stay as they are.

    Args:
        model: The classifier.
        **options: Of ``torch.compile``.
    """
    for module in model.modules():
        # mmpretrain's ViT holds NumPy numbers, each of which would break the graph.
        if isinstance(getattr(module, 'drop_prob', None), np.floating):
            module.drop_prob = float(module.drop_prob)
    for name in ('backbone', 'neck', 'head'):
        part = getattr(model, name, None)
        if part is not None:
            part.compile(**options)


@HOOKS.register_module()
class CompileHook(Hook):
    """Train with ``torch.compile``: the backbone, neck and head become one graph each.

    mmengine's ``compile=True`` compiles the whole training step instead, losses, logs and all, which
    breaks into dozens of graphs. Steps with and without class attention are two graphs, evaluation
    is a third; each is compiled when it first occurs. In distributed training torch splits them where
    gradients are exchanged.

    Args:
        fullgraph: Whether a graph that breaks is an error.
        dynamic: Whether one graph serves all batch sizes; by default the last, smaller batch of an
            epoch has graphs of its own, for those of any size are slower.
        **options: Further ones of ``torch.compile``: ``mode='max-autotune-no-cudagraphs'``,
            ``backend``.
    """

    def __init__(self, fullgraph: bool = False, dynamic: bool = False, **options: Any):
        self.options = dict(options, fullgraph=fullgraph, dynamic=dynamic)

    def before_train(self, runner: Runner) -> None:
        """Compile once the weights are loaded."""
        model = unwrap_model(runner)
        runner.logger.info('Compiling: the first steps take a minute or so each.')
        compile_parts(model, **self.options)
