#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Test classifiers by suites of robustness tests, and set them side by side on one page.

python tools/analysis/robustness.py CONFIG CHECKPOINT --data data --suite occlusion,calibration
python tools/analysis/robustness.py CONFIG CHECKPOINT --also CONFIG CHECKPOINT --names CutMix MixPro --data data
tools/dist_robustness.sh CONFIG CHECKPOINT 8 --data data

--data is the folder of imagenet-a, imagenet-o and others; suites that have no data of their own take the config's test
set. What is missing is named and the rest still runs; what has been measured with the same weights, settings and data
is not measured again. Writes OUT/robustness.html, OUT/robustness.json and a file for each result.
"""

import argparse
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine import Config, ConfigDict, DictAction
from mmengine.dist import broadcast_object_list, is_main_process
from rich.console import Console
from rich.table import Table
from torch.distributed.elastic.multiprocessing.errors import record as record_errors

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.apis import get_model
from mmmixpro.engine.launch import add_arguments, load_config, open_process_group, set_dataloader_defaults
from mmmixpro.evaluation.measuring import device_name, measure
from mmmixpro.evaluation.results import read_result, settings_of, sha256, versions, write_json
from mmmixpro.evaluation.suite import apply_suite, find_suites, load_suite
from mmmixpro.visualization.robustness import occlusion_tables, tables, write_robustness


@dataclass
class Model:
    """A checkpoint to test.

    Attributes:
        name: What people call it.
        config: Path of its config.
        checkpoint: Path of its weights.
        cfg: The config, loaded.
        sha256: Of the checkpoint.
        suites: The result of each suite, see :mod:`mmmixpro.visualization.robustness`.
    """

    name: str
    config: str
    checkpoint: str
    cfg: Config
    sha256: str
    suites: dict[str, dict] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of its folders."""
        return re.sub(r'[^\w.-]+', '_', self.name)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a classifier')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--also', nargs=2, action='append', default=[], metavar=('CONFIG', 'CHECKPOINT'), help='another one; repeat'
    )
    parser.add_argument('--names', nargs='+', help='of the models; default: folder and stem of their configs')
    parser.add_argument('--data', type=Path, metavar='ROOT', help='default: $ROBUSTNESS_ROOT, or data')
    parser.add_argument(
        '--suite', help=f'separated by commas, files of your own (.py) too; default: {",".join(find_suites())}'
    )
    parser.add_argument(
        '--suite-options', nargs='+', action=DictAction, default={}, help='settings of suites: occlusion.test_cfg.x=y'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/robustness'), help='default: %(default)s')
    parser.add_argument('--again', action='store_true', help='measure again what has been measured')
    add_arguments(parser)
    return parser.parse_args()


def load_suites(args: argparse.Namespace) -> dict[str, ConfigDict]:
    """The settings of each suite by its name."""
    if args.data is not None:
        if not args.data.is_dir():
            raise FileNotFoundError(f"--data: expected the folder of the robustness sets, found no '{args.data}'.")
        os.environ['ROBUSTNESS_ROOT'] = str(args.data)
    names = args.suite.split(',') if args.suite else list(find_suites())
    suites = dict(load_suite(name.strip()) for name in names)
    if len(suites) < len(names) or not suites:
        raise ValueError(f'--suite: expected suites of different names, separated by commas; got {names}.')
    unknown = {key.split('.')[0] for key in args.suite_options} - set(suites)
    if unknown:
        raise ValueError(
            f'--suite-options: {sorted(unknown)} are none of the suites {list(suites)}; as SUITE.key=value.'
        )
    options = Config(suites)
    options.merge_from_dict(args.suite_options)
    return {name: options[name] for name in suites}


def load_models(args: argparse.Namespace, suites: dict[str, ConfigDict]) -> list[Model]:
    """The models, each checked to be what its config says and to be testable."""
    pairs = [(args.config, args.checkpoint), *args.also]
    names = args.names or [str(Path(config).resolve().parent.name + '/' + Path(config).stem) for config, _ in pairs]
    if len(names) != len(pairs):
        raise ValueError(f'--names: expected {len(pairs)} names, one for each model; got {names}.')
    for path in (path for pair in pairs for path in pair):
        if not Path(path).is_file():
            raise FileNotFoundError(f"Expected a config or a checkpoint, found no '{path}'.")
    models = []
    for name, (config, checkpoint) in zip(names, pairs, strict=True):
        own = argparse.Namespace(**{**vars(args), 'config': config})
        cfg = load_config(own, ())
        for suite in suites.values():
            apply_suite(cfg, suite)
        try:
            get_model(cfg, checkpoint, device='cpu')
        except (ValueError, TypeError) as error:
            raise ValueError(f'{name}: {error}') from error
        set_dataloader_defaults(cfg, 'test_dataloader', own)
        models.append(Model(name, config, checkpoint, cfg, sha256(checkpoint)))
    if len({model.folder for model in models}) < len(models):
        raise ValueError(f'Models need names that differ, in more than punctuation; got {names}. Set --names.')
    return models


def test(
    model: Model, suite: str, settings: ConfigDict, seen: dict[str, str], args: argparse.Namespace, console: Console
) -> dict:
    """The result of a suite: the one that there is, or a new one; ``seen``: see :func:`settings_of`."""
    cfg = apply_suite(model.cfg, settings)
    if args.amp:
        cfg.test_cfg.fp16 = True
    cfg.load_from = model.checkpoint
    cfg.work_dir = str(Path(args.work_dir or args.out / 'logs', model.folder, suite))
    cfg.experiment_name = f'{model.folder}_{suite}'  # loggers are known by it
    path = args.out / 'results' / model.folder / f'{suite}.json'
    title = f'{model.name}, {suite}'
    # One rank decides, or some might measure what others have read.
    known: list[dict | None] = [None]
    if is_main_process() and not args.again:
        known = [read_result(path, settings_of(cfg, model.sha256, seen))]
    broadcast_object_list(known)
    result = known[0]
    if result is not None:
        outcome = f'measured before, {result["date"]}'
    else:
        console.print(f'{title}: testing')
        result = measure(cfg, title, console)
        outcome = result['status'] + (f', {result["reason"]}' if 'reason' in result else '')
        if result['status'] == 'done' and is_main_process():
            # Data that the test itself has fetched are there now.
            result |= dict(settings=settings_of(cfg, model.sha256, seen), versions=versions(), date=now())
            write_json(path, result)
    for warning in result.get('warnings', []):
        console.print(f'{title}: {warning}', style='yellow')
    console.print(f'{title}: {outcome}')
    return result


def now() -> str:
    return datetime.now().isoformat(' ', 'seconds')


def show(record: dict, console: Console) -> None:
    """Print the tables of the page, with those behind the curves."""
    for table in (*occlusion_tables(record), *tables(record)):
        shown = Table(title=table.title, title_justify='left')
        shown.add_column(table.corner)
        for name in table.columns:
            shown.add_column(name, justify='right')
        rows = [*table.rows, *((f"{name} (the paper's)", values) for name, values in table.paper)]
        for name, values in rows:
            shown.add_row(name, *('–' if value is None else f'{value:.1f}' for value in values))
        console.print(shown)


@record_errors  # torchrun's report names the error
def main() -> None:
    args = parse_args()
    suites = load_suites(args)
    models = load_models(args, suites)
    open_process_group(models[0].cfg)
    # Bound to the console as it is now: what mmengine prints during a test goes to its log files alone.
    console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True, quiet=not is_main_process())
    page = args.out / 'robustness.html'
    seen: dict[str, str] = {}
    for model in models:
        model.suites |= {suite: dict(status='pending') for suite in suites}
    for model in models:
        for suite, settings in suites.items():
            model.suites[suite] = test(model, suite, settings, seen, args, console)
            shown = ('name', 'config', 'checkpoint', 'sha256', 'suites')
            record = dict(
                command=shlex.join(sys.argv),
                date=now(),
                device=device_name(),
                suites=list(suites),
                models=[{key: getattr(one, key) for key in shown} for one in models],
            )
            if is_main_process():
                write_json(args.out / 'robustness.json', record)
                write_robustness(page, record)
    show(record, console)
    console.print(f'Figures: {args.out / "robustness.json"}\nPage:    {page}')
    results = [result['status'] for model in models for result in model.suites.values()]
    if 'failed' in results or 'done' not in results:
        raise SystemExit(
            f'{results.count("failed")} failed, {results.count("skipped")} skipped, for the reasons above.'
        )


if __name__ == '__main__':
    main()
