# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS


@pytest.fixture
def build(classifier_cfg, redraw):
    def build(**kwargs):
        model = redraw(MODELS.build(classifier_cfg(**kwargs)))
        model.head.layers.head.weight.data /= 4
        for mixer in model.mixers:
            mixer.init_weights()
        return model

    return build


@pytest.fixture
def learn():
    def learn(model, seed, size):
        """Loss and gradient norms of a step on images drawn from a seed."""
        np.random.seed(seed)
        torch.manual_seed(seed)
        images, scores = torch.randn(4, 3, *size), torch.eye(7)[:4]
        model.zero_grad()
        loss = model.loss(images, scores)['loss']
        loss.backward()
        return torch.stack([loss.detach(), *(param.grad.norm() for param in model.parameters())])

    return learn
