# Copyright (c) MMMixPro contributors.
import pytest
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
