# Copyright (c) MMMixPro contributors.
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import mmcv
import mmengine.config.config
import mmengine.hub.hub
import mmpretrain
import numpy as np
import pytest
import torch
from mmcv.utils import ext_loader
from mmengine.dataset import InfiniteSampler
from mmengine.logging import HistoryBuffer
from torch.utils.data import DataLoader

import mmmixpro  # noqa: F401 (allows what runners save)
from mmmixpro.utils import stacks


def histories(**scalars):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    buffer.update(np.float64(2), 1)
    return dict(log_scalars=dict(loss=buffer), runtime_info=dict(best=np.float32(0.5), iter=np.int64(3), **scalars))


def test_what_runners_save_is_read_without_running_code(tmp_path):
    torch.save(histories(), tmp_path / 'epoch_1.pth')
    # In a process that has made no history yet, as a resumed run.
    code = (
        'import sys, mmmixpro, torch; loaded = torch.load(sys.argv[1], weights_only=True);'
        "print(loaded['log_scalars']['loss'].mean(), *loaded['runtime_info'].values())"
    )
    command = [sys.executable, '-W', 'ignore', '-c', code, tmp_path / 'epoch_1.pth']
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split('\n')[-2] == '2.0 0.5 3'


@pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_arrays_of_numpy_1_and_2_are_read(module, tmp_path):
    torch.save(histories(), tmp_path / 'epoch_1.pth', _use_new_zipfile_serialization=False)
    content = (tmp_path / 'epoch_1.pth').read_bytes()
    for spelled in (b'numpy._core.multiarray', b'numpy.core.multiarray'):
        content = content.replace(spelled, module.encode())
    (tmp_path / 'other.pth').write_bytes(content)
    stacks.allow_what_runners_save()  # which other tests may have withdrawn, see there
    loaded = torch.load(tmp_path / 'other.pth', weights_only=True)
    assert loaded['log_scalars']['loss'].max() == 3


class Asks:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'payload',
    [Asks(exec, 'raise SystemExit'), Asks(getattr, HistoryBuffer, '__init__'), Asks(getattr, np.ndarray, 'tofile')],
)
def test_nothing_else_is_read(payload, tmp_path):
    torch.save(histories(payload=payload), tmp_path / 'epoch_1.pth')
    with pytest.raises(Exception, match=r'exec|asks for'):
        torch.load(tmp_path / 'epoch_1.pth', weights_only=True)


@pytest.mark.parametrize('name', ['2.1.0', '2.3.6'])
def test_old_mmcv_without_ops_is_imported_whole(monkeypatch, name):
    monkeypatch.setattr(mmcv, '__version__', name)
    monkeypatch.setattr('importlib.util.find_spec', lambda module: None)
    stock = object()
    monkeypatch.setattr(ext_loader, 'load_ext', stock)
    stacks.level()
    assert (ext_loader.load_ext is stock) is (name == '2.3.6')
    if name == '2.1.0':
        with pytest.raises(ImportError, match="nms is one of mmcv's compiled ops.* pip install mmcv==2.1.0"):
            ext_loader.load_ext('_ext', ['nms']).nms(1)


def test_an_editable_install_is_found(tmp_path, monkeypatch):
    """mmengine 0.10.7 takes the folder that the metadata are in for that of the package."""
    monkeypatch.setattr(mmengine, '__version__', '0.10.7')
    for module in (mmengine.config.config, mmengine.hub.hub):
        monkeypatch.setattr(module, 'get_installed_path', lambda package: str(tmp_path))
    stacks.level()
    (tmp_path / 'mine.py').write_text("_base_ = 'mmmixpro::mixpro/deit-t_8xb128_in1k.py'")
    assert mmengine.Config.fromfile(tmp_path / 'mine.py').model.type == 'PALClassifier'
    assert mmengine.config.config.get_installed_path('mmpretrain') == str(Path(mmpretrain.__file__).parent)


class Loaded(torch.utils.data.Dataset):
    def __init__(self):
        self.indices = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.indices.append(index)
        return index


def old_loop(trained):
    """As much of a loop of mmengine 0.10.7 as is looked at, after some iterations."""
    loader = DataLoader(Loaded(), batch_size=2, sampler=InfiniteSampler(Loaded(), seed=0), collate_fn=list)
    loop = SimpleNamespace(dataloader=loader, dataloader_iterator=iter([]), iter=trained)
    assert stacks.can_skip(loop)
    return loop


def test_old_loop_goes_on_without_loading_what_was_trained():
    whole = list(islice(old_loop(0).dataloader_iterator, 9))
    loop = old_loop(6)
    for _ in range(6):  # as the loop does it
        assert next(loop.dataloader_iterator) is None
    assert list(islice(loop.dataloader_iterator, 3)) == whole[6:]
    assert loop.dataloader.dataset.indices == sum(whole[6:], [])

    loop.dataloader_iterator.skip_iter(2)
    assert list(islice(loop.dataloader_iterator, 4)) == whole[2:6]


@pytest.mark.parametrize(('has', 'expected'), [(['skip'], True), ([], False)])
def test_loop_that_skips_is_left_as_it_is(has, expected):
    iterator = SimpleNamespace(skip_iter=None)
    sampler = SimpleNamespace(**dict.fromkeys(has))
    loop = SimpleNamespace(dataloader=SimpleNamespace(sampler=sampler), dataloader_iterator=iterator)
    assert stacks.can_skip(loop) is expected
    assert loop.dataloader_iterator is iterator


def test_other_sampler_on_an_old_loop_cannot_skip():
    loop = SimpleNamespace(dataloader=DataLoader(Loaded()), dataloader_iterator=iter([]))
    assert not stacks.can_skip(loop)
