# Copyright (c) MMMixPro contributors.
"""Execute notebooks, each in an empty folder, and write what they show into them.

python docs/notebooks/execute.py                  both; needs nbclient and ipykernel, and mmcv's ops for mask_rcnn
python docs/notebooks/execute.py own_folder
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
NAMES = ('own_folder', 'mask_rcnn')


def execute(name: str, folder: Path, parameters: str | None = None) -> nbformat.NotebookNode:
    """Execute a notebook as a user would from the top.

    Args:
        name: Its stem.
        folder: Where it runs and writes.
        parameters: Takes the place of its cell of parameters; None keeps that.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)
    if parameters is not None:
        (cell,) = [cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', [])]
        cell.source = parameters
    paths = [str(FOLDER.parents[1]), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    resources = dict(metadata=dict(path=str(folder)))
    client = NotebookClient(notebook, record_timing=False, coalesce_streams=True, resources=resources)
    client.execute(env=env)
    # Of the machine, not of the notebook.
    notebook.metadata.language_info = dict(name='python')
    return notebook


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(name, Path(folder))
        nbformat.write(notebook, FOLDER / f'{name}.ipynb')
        print(f'Executed: {name}.ipynb')


if __name__ == '__main__':
    main()
