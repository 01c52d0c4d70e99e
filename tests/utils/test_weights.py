# Copyright (c) MMMixPro contributors.
"""Reading checkpoints: every layout that runs leave behind, and no code."""

import argparse
import functools
import http.server
import os
import pathlib
import sys
import threading
import types

import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from mmmixpro.utils.weights import load_weights, read_checkpoint


class Payload:
    """Unpickled by the stock loader, it writes a file."""

    def __init__(self, target, call=exec):
        self.call = call
        self.target = target

    def __reduce__(self):
        if self.call is exec:
            return exec, (f'open({str(self.target)!r}, "w").close()',)
        return self.call, (f'touch {self.target}',)


def weights():
    return {'backbone.a': torch.arange(3.0), 'backbone.b.c': torch.ones(2, 2), 'head.d': torch.ones(1)}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda w: w,
        lambda w: {'state_dict': w, 'meta': {}},
        lambda w: {'model': w, 'optimizer': {}},
        lambda w: {'state_dict': {f'module.{key}': value for key, value in w.items()}},
        lambda w: {'state_dict': w, 'ema_state_dict': {k: v + 1 for k, v in w.items()}},
    ],
    ids=['plain', 'state_dict', 'model', 'DDP', 'EMA'],
)
def test_layouts(save, wrap):
    path = save(wrap(weights()))
    loaded = load_weights(path)
    assert loaded.keys() == weights().keys()
    assert all(torch.equal(loaded[key], value) for key, value in weights().items())
    for prefix in ('backbone', 'backbone.'):
        assert list(load_weights(path, prefix)) == ['a', 'b.c']


def test_what_a_runner_adds_beside_the_weights_does_nothing(save):
    hub = MessageHub.get_instance('test_weights')
    for step in range(3):
        hub.update_scalar('train/loss', float(step))
    hub.update_info('best_score', torch.tensor(1.0).numpy()[()])
    scaler = torch.amp.GradScaler('cpu').state_dict()
    path = save({'state_dict': weights(), 'message_hub': hub.state_dict(), 'scaler': scaler})
    statistics = dict(HistoryBuffer._statistics_methods)
    assert load_weights(path).keys() == weights().keys()
    assert statistics == HistoryBuffer._statistics_methods


def names(call):
    return {exec: 'exec', os.system: 'posix.system'}[call]


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('call', [exec, os.system], ids=['exec', 'system'])
def test_code_is_named_and_not_run(save, tmp_path, monkeypatch, call, zipped):
    # Even if the user switched torch's own protection off.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    target = tmp_path / 'side_effect'
    content = {'state_dict': weights(), 'meta': Payload(target, call)}
    path = save(content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf'carries code: it asks for (builtins\.)?{names(call)}'):
        load_weights(path, 'backbone.')
    assert not target.exists()
    # The payload is live: this is what the refusal saved us from.
    torch.load(path, weights_only=False)
    assert target.exists()


def test_what_the_process_allows_is_not_allowed_here_and_stays_allowed(save, tmp_path):
    path = save({'state_dict': weights(), 'meta': Payload(tmp_path / 'side_effect')})
    before = list(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals([exec, HistoryBuffer])
    try:
        with pytest.raises(ValueError, match='exec'):
            load_weights(path)
        assert set(torch.serialization.get_safe_globals()) == {*before, exec, HistoryBuffer}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert not (tmp_path / 'side_effect').exists()


def test_a_pickled_model_is_code(save):
    with pytest.raises(ValueError, match=r'carries code: it asks for torch\.nn\.modules\.linear\.Linear'):
        load_weights(save(nn.Linear(1, 1)))


@pytest.mark.parametrize('content', [{'meta': 1}, [torch.ones(1)], {}, {'state_dict': {}}])
def test_no_weights(save, content):
    with pytest.raises(ValueError, match='holds no weights'):
        load_weights(save(content))


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04 half a file'])
def test_no_checkpoint(tmp_path, content):
    for suffix in ('pth', 'safetensors'):
        path = tmp_path / f'checkpoint.{suffix}'
        path.write_bytes(content)
        with pytest.raises(ValueError, match='is no checkpoint') as error:
            load_weights(str(path))
        assert 'weights_only' not in str(error.value)


def test_safetensors(tmp_path):
    path = str(tmp_path / 'checkpoint.safetensors')
    safetensors.torch.save_file(weights(), path)
    loaded = load_weights(path, map_location='meta')
    assert loaded.keys() == weights().keys()
    assert all(value.is_meta for value in loaded.values())
    assert torch.equal(load_weights(path, 'backbone')['a'], weights()['backbone.a'])
    # A name that promises more than there is.
    torch.save(weights(), path)
    with pytest.raises(ValueError, match='is no checkpoint: expected weights as safetensors'):
        load_weights(path)


def test_what_a_checkpoint_says_of_itself(save, tmp_path):
    said = dict(epoch=3, dataset_meta=dict(classes=['ant']))
    assert read_checkpoint(save(dict(state_dict=weights(), meta=said)))[1] == said
    assert read_checkpoint(save(weights()))[1] == {}
    path = str(tmp_path / 'checkpoint.safetensors')
    safetensors.torch.save_file(weights(), path, dict(epoch='3', dataset_meta='{"classes": ["ant"]}', part='backbone'))
    found, meta = read_checkpoint(path)
    assert meta == dict(said, part='backbone')
    assert found.keys() == weights().keys()
    safetensors.torch.save_file(weights(), path)
    assert read_checkpoint(path)[1] == {}


@pytest.mark.parametrize('size', [0, 4, 8, 9, 60, -1])
def test_half_a_file_of_safetensors(tmp_path, size):
    """Cut within the length of its header, within the header, and within the tensors."""
    path = tmp_path / 'checkpoint.safetensors'
    safetensors.torch.save_file(weights(), path, dict(part='backbone'))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match='is no checkpoint: expected weights as safetensors'):
        read_checkpoint(str(path))


class CfgNode(dict):
    """A dict with state, as yacs has it."""

    def __init__(self, content):
        super().__init__(content)
        self.__dict__['__immutable__'] = False


def test_what_others_save_beside_the_weights(save, monkeypatch, tmp_path):
    """Paths on the command line, and configs of yacs; what is in those is read as strictly."""
    module = types.ModuleType('yacs.config')
    module.CfgNode = CfgNode
    monkeypatch.setattr(CfgNode, '__module__', 'yacs.config')
    monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    monkeypatch.setattr(pathlib.PosixPath, '__module__', 'pathlib')
    config = CfgNode(dict(MODEL=CfgNode(dict(NAME='swin')), path=pathlib.Path('/x/y')))
    old = dict(model=weights(), config=config, args=argparse.Namespace(output_dir=pathlib.Path('runs')))
    monkeypatch.setattr(pathlib.Path, '__module__', 'pathlib')
    assert load_weights(save(dict(old, kind=pathlib.Path))).keys() == weights().keys()
    made = []
    monkeypatch.setattr(CfgNode, '__new__', lambda *args: made.append(args))
    assert load_weights(save(old)).keys() == weights().keys()
    # Of Python 3.13.
    monkeypatch.setattr(pathlib.PosixPath, '__module__', 'pathlib._local')
    monkeypatch.setitem(sys.modules, 'pathlib._local', pathlib)
    assert load_weights(save(old)).keys() == weights().keys()
    assert not made
    bad = dict.__new__(CfgNode)
    bad['hook'] = Payload(tmp_path / 'side_effect')
    with pytest.raises(ValueError, match=r'carries code: it asks for (builtins\.)?exec'):
        load_weights(save(dict(old, config=bad)))
    assert not (tmp_path / 'side_effect').exists()


@pytest.mark.parametrize('share', [0.05, 0.5, 0.95, 0.999])
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_half_a_checkpoint(save, share, zipped):
    path = save({'state_dict': weights(), 'meta': {'cfg': 'x' * 10000}}, _use_new_zipfile_serialization=zipped)
    with open(path, 'r+b') as file:
        file.truncate(int(os.path.getsize(path) * share))
    with pytest.raises(ValueError, match=f'{path} is no checkpoint: expected weights saved by torch.save'):
        load_weights(path)


def test_no_file():
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.pth' \(in .*\)\.$"):
        load_weights('nowhere.pth')
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.pth'.*epoch_300\.pth.*MIXPRO_CHECKPOINT"):
        WEIGHT_INITIALIZERS.build(dict(type='Pretrained', checkpoint='nowhere.pth', strict=True))(nn.Linear(1, 1))


def test_prefix_without_keys(save):
    with pytest.raises(ValueError, match=r"begins with 'neck\.'.*backbone\.a"):
        load_weights(save(weights()), 'neck')


def test_name_in_a_zoo():
    with pytest.raises(ValueError, match="found 'torchvision'"):
        load_weights('torchvision://resnet50')


def test_http(save, tmp_path):
    save({'state_dict': weights()}, 'checkpoint.pth')
    save({'state_dict': weights(), 'meta': Payload(tmp_path / 'side_effect')}, 'code.pth')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f'http://127.0.0.1:{server.server_port}'
        assert list(load_weights(f'{root}/checkpoint.pth', 'backbone')) == ['a', 'b.c']
        with pytest.raises(ValueError, match='carries code'):
            load_weights(f'{root}/code.pth')
        server.shutdown()
    assert not (tmp_path / 'side_effect').exists()
