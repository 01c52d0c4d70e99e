# Copyright (c) MMMixPro contributors.
import os

import pytest
import torch
from mmengine.config import Config

from mmmixpro.engine.launch import build_runner, latest_checkpoint


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of epochs 9 and 10, the latter the last."""
    for age, epoch in enumerate((10, 9)):
        path = tmp_path / f'epoch_{epoch}.pth'
        torch.save(dict(epoch=epoch), path)
        os.utime(path, (100 - age, 100 - age))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def test_latest_is_what_mmengine_wrote_down(saved):
    (saved / 'last_checkpoint').write_text(str(saved / 'epoch_9.pth'))
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_9.pth')


def test_killed_while_writing_the_checkpoint(saved):
    whole = (saved / 'epoch_10.pth').read_bytes()
    (saved / 'epoch_10.pth').write_bytes(whole[:-100])
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_9.pth')


@pytest.mark.parametrize('text', ['', 'elsewhere/epoch_10.pth'])
def test_last_checkpoint_is_empty_or_the_folder_was_moved(saved, text):
    (saved / 'last_checkpoint').write_text(text)
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_10.pth')


def test_nothing_complete_is_an_error_but_nothing_at_all_is_a_fresh_start(saved, tmp_path):
    for path in saved.glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(FileNotFoundError, match='--resume FILE'):
        latest_checkpoint(str(saved))
    assert latest_checkpoint(str(tmp_path / 'new')) is None


def test_slurm_without_gpus_is_refused(monkeypatch):
    monkeypatch.setattr('mmmixpro.engine.launch.get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match=r'tools/dist_train\.sh'):
        build_runner(Config(dict(launcher='slurm')))
