# Copyright (c) MMMixPro contributors.
import logging

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample


@pytest.fixture
def make_samples():
    """Samples as a model returns them, one per row of scores; each further keyword is a list of meta values."""

    def make_samples(scores, labels, **meta):
        samples = []
        for index, (score, label) in enumerate(zip(torch.as_tensor(scores), labels, strict=True)):
            own = {key: values[index] for key, values in meta.items()}
            samples.append(DataSample(metainfo=own).set_pred_score(score).set_gt_label(int(label)))
        return samples

    return make_samples


@pytest.fixture
def make_confident(make_samples):
    """Samples of two classes with given confidences, in float64, of which some are right."""

    def make_confident(confidence, correct):
        confidence = torch.as_tensor(confidence, dtype=torch.float64)
        scores = torch.stack([confidence, torch.zeros_like(confidence)], dim=1)
        return make_samples(scores, [0 if right else 1 for right in correct])

    return make_confident


@pytest.fixture
def evaluate():
    """All figures of metrics over samples in batches of 7, by mmengine's evaluator."""

    def evaluate(metrics, samples, **meta):
        evaluator = Evaluator(metrics)
        evaluator.dataset_meta = meta
        for start in range(0, len(samples), 7):
            evaluator.process(samples[start : start + 7])
        return evaluator.evaluate(len(samples))

    return evaluate


@pytest.fixture
def warnings_of():
    """What a call writes into mmengine's log."""

    def warnings_of(call):
        lines = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: lines.append(record.getMessage())
        logger = MMLogger.get_current_instance()
        logger.addHandler(handler)
        result = call()
        logger.removeHandler(handler)
        return result, '\n'.join(lines)

    return warnings_of
