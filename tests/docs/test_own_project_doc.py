# Copyright (c) MMMixPro contributors.
"""docs/own_project.md, as written: its configs and commands, in an empty folder, with MMMixPro installed as a wheel."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs/own_project.md').read_text()
# Only what installs is ```console.
BLOCKS = re.findall(r'```(python|bash)\n(.*?)```', TEXT, re.DOTALL)
WHEEL = 'from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder into which MMMixPro is installed; mim does not see an editable install."""
    folder = tmp_path_factory.mktemp('site')
    subprocess.run(['git', 'clone', '-q', ROOT, folder / 'source'], check=True)
    changed = subprocess.run(['git', 'diff', 'HEAD', '--binary'], cwd=ROOT, capture_output=True, check=True).stdout
    if changed:
        subprocess.run(['git', 'apply'], cwd=folder / 'source', input=changed, check=True)
    run = subprocess.run(
        [sys.executable, '-c', WHEEL, folder], cwd=folder / 'source', capture_output=True, text=True, check=True
    )
    zipfile.ZipFile(folder / run.stdout.splitlines()[-1]).extractall(folder / 'packages')
    return folder / 'packages'


@pytest.mark.slow
def test_the_page_as_written(site, tmp_path):
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = dict(os.environ, PYTHONPATH=str(site), PATH=path, OMP_NUM_THREADS='2')
    outputs = []
    for language, text in BLOCKS:
        if language == 'python':
            file = tmp_path / re.match(r'# (\S+\.py)\n', text)[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            continue
        run = subprocess.run(['bash', '-ec', text], cwd=tmp_path, env=env, capture_output=True, text=True)
        outputs.append(run.stdout + run.stderr)
        assert run.returncode == 0, f'{text}\n{outputs[-1][-3000:]}'
    for name in ('mixpro', 'deit', 'deit_stock', 'swin'):
        assert (tmp_path / f'work_dirs/{name}/epoch_1.pth').is_file()
    assert "Loaded work_dirs/mixpro/epoch_1.pth (prefix 'backbone.')" in ''.join(outputs)
    assert (tmp_path / 'mixed.png').is_file() and (tmp_path / 'alpha.svg').is_file()
    assert 'mixpro/deit-s_paper_8xb128_in1k' in outputs[-1]
