# Copyright (c) MMMixPro contributors.
"""The files of services that cannot be asked here name commands and packages that there are."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGETS = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
LOCK = (ROOT / 'requirements/lock.txt').read_text()


def commands():
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    return [step['run'] for job in workflow['jobs'].values() for step in job['steps'] if 'run' in step]


def test_workflow_runs_targets():
    targets = [re.match(r'make ([a-z-]+)', command)[1] for command in commands()]
    assert set(targets) <= TARGETS
    assert {'lint', 'test', 'test-slow', 'test-upstream', 'test-matrix', 'docs'} <= set(targets)


def test_workflow_has_the_supported_pythons():
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    classifiers = re.findall(r'Python :: (3\.\d+)"', (ROOT / 'pyproject.toml').read_text())
    assert workflow['jobs']['test']['strategy']['matrix']['python'] == classifiers


def test_workflow_has_the_whole_matrix():
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    jobs = workflow['jobs']['matrix']['strategy']['matrix']['include']
    matrix = runpy.run_path(str(ROOT / 'tools/setup/matrix.py'))['COMBINATIONS']
    assert [(job['name'], job['python']) for job in jobs] == [(one.name, one.python) for one in matrix]


def test_hooks_are_those_of_make_lint():
    (repository,) = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    assert repository['repo'] == 'local'
    tools = [Path(hook['entry'].split()[0]).name for hook in repository['hooks']]
    assert tools == ['ruff', 'ruff', 'mypy']
    assert all(re.search(rf'^{tool}==', LOCK, re.MULTILINE) for tool in [*tools, 'pre-commit'])


@pytest.mark.parametrize('name', ['docker/Dockerfile', '.dockerignore'])
def test_image_is_built_by_make(name):
    text = (ROOT / name).read_text()
    assert set(re.findall(r'RUN make ([a-z-]+)', text)) <= TARGETS
    if name == 'docker/Dockerfile':
        # CUDA is that of torch.
        (cuda,) = re.findall(r'^FROM nvidia/cuda:(\d+\.\d+)\.\d+-devel', text, re.MULTILINE)
        assert re.search(rf'^nvidia-cuda-runtime==({cuda})\.', LOCK, re.MULTILINE)
