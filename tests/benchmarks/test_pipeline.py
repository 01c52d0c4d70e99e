# Copyright (c) MMMixPro contributors.
import json
import os
import subprocess
import sys
from pathlib import Path

import pipeline
import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
STAGES = ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'RandAugment', 'RandomErasing', 'PackInputs']


def test_script(tmp_path):
    out = tmp_path / 'result.json'
    command = [sys.executable, BENCHMARKS / 'pipeline.py', '--images', '2', '--rounds', '2', '--out', out]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    rows = result['pipelines']
    assert list(rows)[:2] == ['mmpretrain', 'mmmixpro (fast)'] and len(rows) == 7
    assert all(0 < row['images_per_s']['q1'] <= row['images_per_s']['q3'] for row in rows.values())
    assert rows['mmpretrain']['speedup'] == dict(median=1, q1=1, q3=1)
    assert list(result['stages_ms']['mmpretrain']) == STAGES
    assert (
        list(result['stages_ms']['mmmixpro (fast)'])
        == STAGES[:1] + [f'Fast{stage}' for stage in STAGES[1:-1]] + STAGES[-1:]
    )
    assert result['images']['number'] == 8 and result['images']['mean_width'] == 500
    assert 80 < result['images']['mean_kilobytes'] < 130  # decoding time goes by bytes
    assert result['threads'] == 1
    for name in [*rows, *STAGES]:
        assert name in done.stdout


def test_every_pipeline_makes_a_training_tensor(tmp_path):
    pipeline.generate(tmp_path, 1, pipeline.np.random.default_rng(0))
    (path,) = pipeline.find_images(tmp_path)
    for name, make in pipeline.make_pipelines().items():
        image = make(path)
        assert image.shape == (3, 224, 224), name
        assert str(image.dtype) == ('torch.float32' if 'float32' in name else 'torch.uint8'), name


def test_all_pipelines_meet_the_same_images():
    seen = [[], []]
    takes = [pipeline.in_turn(files.append, 'abc', 2) for files in seen]
    for take in (takes[0], takes[1], takes[1], takes[0]):
        take()
    assert seen[0] == seen[1] == ['a', 'b', 'c', 'a']


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='--data: expected a folder with JPEGs'):
        pipeline.find_images(tmp_path)
