# Copyright (c) MMMixPro contributors.
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmmixpro.engine.loading import load_to_resume


class Payload:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.fixture
def runner():
    hooks = []

    def call_hook(name, **kwargs):
        hooks.append((name, *kwargs))

    return SimpleNamespace(model=nn.Linear(2, 1), call_hook=call_hook, hooks=hooks)


@pytest.fixture
def save(tmp_path):
    def save(**content):
        torch.save(content, tmp_path / 'epoch_1.pth')
        return str(tmp_path / 'epoch_1.pth')

    return save


def test_all_that_a_run_saves_is_handed_on(runner, save):
    weights = {name: torch.full_like(value, 7) for name, value in runner.model.state_dict().items()}
    histories = dict(log_scalars=dict(loss=HistoryBuffer([0.5], [1])), runtime_info=dict(best=np.float64(3)))
    found = load_to_resume(runner, save(state_dict=weights, message_hub=histories, meta=dict(epoch=1)))
    assert found['message_hub']['log_scalars']['loss'].current() == 0.5
    assert found['message_hub']['runtime_info']['best'] == 3
    assert found['meta'] == dict(epoch=1)
    assert torch.equal(runner.model.weight, weights['weight'])
    assert runner.hooks == [('after_load_checkpoint', 'checkpoint')]


@pytest.mark.parametrize(
    ('payload', 'reason'),
    [
        (Payload(exec, 'raise SystemExit'), 'exec'),
        (Payload(getattr, np.ndarray, 'tofile'), "asks for 'tofile' of <class 'numpy.ndarray'>"),
    ],
)
def test_code_is_refused(runner, save, payload, reason):
    before = runner.model.weight.clone()
    path = save(state_dict={'weight': torch.ones(1, 2), 'bias': torch.ones(1)}, message_hub=payload)
    with pytest.raises(ValueError) as error:
        load_to_resume(runner, path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'Cannot resume from {path}: it holds more than a run saves (') and reason in line
    assert 'Nothing of it was run' in line and 'weights_only' not in line
    assert torch.equal(runner.model.weight, before) and not runner.hooks


def test_weights_of_another_model_are_refused(runner, save):
    with pytest.raises(RuntimeError, match='bias'):
        load_to_resume(runner, save(state_dict={'weight': torch.ones(1, 2)}, message_hub={}, meta={}))


def test_after_a_load_of_mmengines_own(runner, save):
    """Which withdraws its part of what torch may read."""
    histories = dict(log_scalars=dict(loss=HistoryBuffer([0.5], [1])))
    path = save(state_dict=runner.model.state_dict(), message_hub=histories, meta={})
    CheckpointLoader.load_checkpoint(path)
    assert load_to_resume(runner, path)['message_hub']['log_scalars']['loss'].current() == 0.5


def test_other_files_are_refused(runner, save, tmp_path):
    (tmp_path / 'garbage.pth').write_bytes(b'no checkpoint')
    for path, error, message in (
        (str(tmp_path / 'nowhere.pth'), FileNotFoundError, 'there is no such file'),
        (str(tmp_path / 'garbage.pth'), ValueError, 'it cannot be read'),
        (save(weight=torch.ones(1)), ValueError, r"with state_dict, message_hub and meta, found \['weight'\]"),
    ):
        with pytest.raises(error, match=message):
            load_to_resume(runner, path)
