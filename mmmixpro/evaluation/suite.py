# Copyright (c) MMMixPro contributors.
"""Suites of robustness tests: what to test on, by what loop and what to measure, for any classifier."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

SUITES = Path(__file__).resolve().parents[1] / '.mim/configs/_base_/robustness'
KEYS = {'dataset', 'wrapper', 'evaluator', 'test_cfg'}


def find_suites(folder: Path = SUITES) -> dict[str, Path]:
    """The suites that there are, by name: the base files of a folder."""
    return {path.stem: path for path in sorted(folder.glob('*.py'))}


def load_suite(name: str, folder: Path = SUITES) -> tuple[str, ConfigDict]:
    """The name and the settings of a suite.

    Args:
        name: Of a suite in ``folder``, or the path of a file of one's own that ends in ``.py``.
        folder: Where the suites are.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such suite, or if the file defines none.
    """
    if name.endswith('.py'):
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f'Expected the file of a suite, found no {name!r}.')
    else:
        suites = find_suites(folder)
        if name not in suites:
            raise ValueError(f'No suite is named {name!r}; there are {", ".join(suites) or "none"}, and files (.py).')
        path = suites[name]
    suite = Config.fromfile(path).get('robustness')
    if not isinstance(suite, dict) or 'evaluator' not in suite or set(suite) - KEYS:
        found = sorted(suite) if isinstance(suite, dict) else 'none'
        raise ValueError(
            f'{path}: expected `robustness = dict(evaluator=[...])` and there, where they differ from those of the '
            f'config that is tested, `dataset` or a `wrapper` around it, and `test_cfg`; found {found}.'
        )
    return path.stem, suite


def apply_suite(cfg: Config, suite: Mapping[str, Any]) -> Config:
    """The config of a classifier, changed to be tested by a suite.

    Args:
        cfg: Any config of mmpretrain with a ``test_dataloader``; left as it is.
        suite: ``evaluator``; ``dataset``, where it is not the config's own, through whose pipeline its images go unless
            it brings one; ``wrapper``, a dataset around the one that is tested; and ``test_cfg``, where the loop is not
            the stock one.

    Returns:
        Config: With ``test_dataloader.dataset``, ``test_evaluator`` and ``test_cfg`` of the suite.

    Raises:
        ValueError: If the config tests nothing or is of no classifier.
    """
    if cfg.get('test_dataloader') is None or cfg.get('default_scope', 'mmpretrain') != 'mmpretrain':
        raise ValueError(
            'Expected the config of a classifier (of mmpretrain) with a test_dataloader, found '
            f"'{cfg.filename}' of {cfg.get('default_scope')}. Suites are for classifiers."
        )
    applied = deepcopy(cfg)
    loader = applied.test_dataloader
    if suite.get('dataset') is not None:
        loader.dataset = ConfigDict(dict(pipeline=_pipeline(loader.dataset)) | deepcopy(suite['dataset']))
    if suite.get('wrapper') is not None:
        loader.dataset = ConfigDict(deepcopy(suite['wrapper']), dataset=loader.dataset)
    # Replaced and not merged: nothing of the old ones is left.
    applied.test_evaluator = deepcopy(suite['evaluator'])
    applied.test_cfg = deepcopy(suite.get('test_cfg') or ConfigDict())
    return applied


def _pipeline(dataset: ConfigDict) -> list:
    """That of a dataset, or of the first one in a wrapper."""
    while 'pipeline' not in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset.pipeline
