# Copyright (c) MMMixPro contributors.
import os

import pytest
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

BACKEND = dict(backend='mmmixpro.atomic')


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / 'runs' / 'epoch_1.pth'
    save_checkpoint(dict(state_dict={}), str(path), backend_args=BACKEND)
    old = path.read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(dict(state_dict=dict(a=1)), str(path), backend_args=BACKEND)
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == ['epoch_1.pth']

    monkeypatch.undo()
    save_checkpoint(dict(state_dict=dict(a=1)), str(path), backend_args=BACKEND)
    assert path.read_bytes() != old
    assert [file.name for file in path.parent.iterdir()] == ['epoch_1.pth']


def test_other_storage_is_refused():
    with pytest.raises(ValueError, match='s3://bucket'):
        get_file_backend('x', backend_args=BACKEND).put(b'', 's3://bucket/epoch_1.pth')
