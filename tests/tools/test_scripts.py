# Copyright (c) MMMixPro contributors.
"""What the shell scripts would start, without starting it."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def started(tmp_path):
    """The command line and threads per rank that a script ends in; srun and python only print."""
    for name in ('srun', 'python'):
        path = tmp_path / name
        path.write_text('#!/bin/sh\nfor arg; do echo "$arg"; done; echo "threads $OMP_NUM_THREADS"')
        path.chmod(0o755)

    def started(script, *args, **env):
        keep = {name: value for name, value in os.environ.items() if name == 'HOME'}
        return subprocess.run(
            [TOOLS / script, *args],
            env={'PATH': f'{tmp_path}:/usr/bin:/bin', **keep, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return started


def test_one_machine_takes_a_free_port(started):
    lines = started('dist_train.sh', 'a b.py', '2', '--amp').stdout.splitlines()
    assert lines[:4] == ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone']
    assert lines[4:-1] == [str(TOOLS / 'train.py'), 'a b.py', '--launcher', 'pytorch', '--amp']
    assert lines[-1] == f'threads {max(os.cpu_count() // 2, 1)}'


def test_several_machines(started):
    env = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='host', OMP_NUM_THREADS='3')
    lines = started('dist_test.sh', 'a.py', 'a.pth', '8', '--tta', **env).stdout.splitlines()
    assert lines[2:7] == [
        '--nproc_per_node=8',
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=host',
        '--master_port=29500',
    ]
    assert lines[7:] == [
        str(TOOLS / 'test.py'), 'a.py', 'a.pth', '--launcher', 'pytorch', '--tta', 'threads 3',
    ]  # fmt: skip


def test_robustness_of_several_models(started):
    lines = started('dist_robustness.sh', 'a.py', 'a.pth', '2', '--also', 'b.py', 'b.pth').stdout.splitlines()
    arguments = ['a.py', 'a.pth', '--launcher', 'pytorch', '--also', 'b.py', 'b.pth']
    assert lines[4:-1] == [str(TOOLS / 'analysis/robustness.py'), *arguments]


def test_port_can_be_given(started):
    assert '--master_port=1234' in started('dist_train.sh', 'a.py', '2', PORT='1234').stdout


@pytest.mark.parametrize(('script', 'tool'), [('train', '--work-dir'), ('test', None)])
def test_slurm(started, script, tool):
    args = ['part', 'job', 'a.py', 'last', '--amp']
    lines = started(f'slurm_{script}.sh', *args, GPUS='16', SRUN_ARGS='-x y').stdout.splitlines()
    assert lines[:2] == ['-p', 'part']
    assert {'--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '-x', 'y'} < set(lines)
    last = [str(TOOLS / f'{script}.py'), 'a.py', *([tool] if tool else []), 'last']
    assert lines[-1 - len(last) - 3 : -1] == [*last, '--launcher', 'slurm', '--amp']


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'dist_robustness.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_too_few_arguments_print_the_usage(started, script):
    run = started(script, 'a.py')
    assert run.returncode == 2
    assert f'tools/{script} ' in run.stderr


def test_ranks_must_be_a_number(started):
    run = started('dist_train.sh', 'a.py', '--amp')
    assert run.returncode == 2
    assert "found '--amp'" in run.stderr
