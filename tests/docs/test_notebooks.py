# Copyright (c) MMMixPro contributors.
"""The notebooks: as they are committed, and executed anew in an empty folder, with small constants."""

import ast
import importlib
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')

FOLDER = Path(__file__).resolve().parents[2] / 'docs/notebooks'
execute = runpy.run_path(str(FOLDER / 'execute.py'))['execute']
# In place of the cell of parameters; of the epochs, two are warm-up.
SMALL = dict(
    own_folder='EPOCHS = 3\nTRAIN_IMAGES, VAL_IMAGES = 130, 20',
    mask_rcnn='PRETRAIN_EPOCHS, EPOCHS = 3, 1\nTRAIN_IMAGES, VAL_IMAGES = 64, 20\nTRAIN_SCENES, VAL_SCENES = 8, 5',
)
WITHOUT_OPS = "import sys\nsys.modules['mmcv._ext'] = None"
ABSOLUTE = re.compile(r'(?<![\w.:/>}])(?:/[\w.-]+){2,}|\b[A-Z]:\\')
each = pytest.mark.parametrize('name', SMALL)
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")


def read(name):
    return nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


def texts(cell):
    """What a cell has shown as text, without colours."""
    for output in cell.get('outputs', []):
        text = output.text if output.output_type == 'stream' else output.data['text/plain']
        yield re.sub(r'\x1b\[[\d;]*m', '', text)


def num_pictures(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum('image/png' in output.get('data', {}) for output in outputs)


def check_outputs(notebook):
    """Nothing that a reader of the site has no use for."""
    for cell in notebook.cells:
        for output in cell.get('outputs', []):
            assert output.output_type != 'error'
            assert output.get('name') != 'stderr'
            # A progress bar or a widget would have another type.
            assert set(output.get('data', {})) <= {'text/plain', 'image/png'}
        for text in (cell.source, *texts(cell)):
            assert not ABSOLUTE.search(text)
            assert not re.search(r'WARNING|Warning|\r', text)


@pytest.mark.parametrize('text', ['saved in /home/me/work_dirs', "PosixPath('/tmp/x')", 'C:\\data', '"/opt/a.pth"'])
def test_an_absolute_path_is_recognised(text):
    assert ABSOLUTE.search(text)


@each
def test_is_valid_and_small(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (FOLDER / f'{name}.ipynb').stat().st_size < 600_000
    assert notebook.metadata.kernelspec.name == 'python3'


@each
def test_outputs_are_those_of_the_cells_as_they_stand(name):
    notebook = read(name)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert num_pictures(notebook) >= 1
    check_outputs(notebook)


@each
def test_the_small_constants_are_all_constants(name):
    def constants(source):
        return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}

    (cell,) = [cell for cell in code_cells(read(name)) if 'parameters' in cell.metadata.get('tags', [])]
    assert constants(cell.source) == constants(SMALL[name])


@each
def test_imports_resolve(name):
    sources = [cell.source for cell in code_cells(read(name)) if not cell.source.startswith('%%writefile')]
    tree = ast.parse('\n'.join(source.removeprefix('%%capture') for source in sources))
    found = 0
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            module = importlib.import_module(node.module if isinstance(node, ast.ImportFrom) else alias.name)
            if isinstance(node, ast.ImportFrom) and not hasattr(module, alias.name):
                importlib.import_module(f'{node.module}.{alias.name}')
            found += 1
    assert found > 8


@pytest.mark.slow
@pytest.mark.parametrize('name', ['own_folder', pytest.param('mask_rcnn', marks=needs_ops)])
def test_runs_from_an_empty_folder(name, tmp_path):
    notebook = execute(name, tmp_path, SMALL[name])
    check_outputs(notebook)
    assert num_pictures(notebook) == num_pictures(read(name))
    shown = '\n'.join(text for cell in code_cells(notebook) for text in texts(cell))
    if name == 'own_folder':
        assert (tmp_path / 'deit-mini.pth').is_file() and (tmp_path / 'deit-mini.safetensors').is_file()
        assert '54 of 54 tensors matched' in shown
    else:
        assert 'into PVT: 106 of 106 tensors matched' in shown and 'into PVT: 0 of 296 tensors match' in shown
        assert re.search(r'bbox_mAP +\d+\.\d\n', shown)


@pytest.mark.slow
def test_without_ops_it_says_how_to_get_them(tmp_path):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match=r'Detection needs.*\n?.*make ops'):
        execute('mask_rcnn', tmp_path, WITHOUT_OPS)
    # Before any work.
    assert not list(tmp_path.iterdir())
