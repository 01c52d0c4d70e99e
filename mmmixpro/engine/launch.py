# Copyright (c) MMMixPro contributors.
"""What tools/train.py and tools/test.py share: from a command line to a config that can start."""

import argparse
import importlib
import logging
import os
import zipfile
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.registry import METRICS, RUNNERS
from mmengine.runner import Runner

from .preflight import check_compiled_ops, check_data_paths, check_method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common, named as OpenMMLab's."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument('--amp', action='store_true', help='use automatic mixed precision')
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin memory in dataloaders')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that override those of the config, as key=value: '
        'optim_wrapper.optimizer.lr=1e-4 model.train_cfg.probs="[0.5,0.5]"; no spaces in a value',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; torchrun sets the environment variable instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace, dataloaders: tuple[str, ...]) -> Config:
    """Load the config of a run and check what can be checked before anything is built.

    Args:
        args: The command line, see :func:`add_arguments`.
        dataloaders: Names of the data loaders that the run uses.

    Raises:
        ValueError: If ``method`` was changed where that has no effect.
        ImportError: If a detection config meets an mmcv without compiled ops.
        FileNotFoundError: If data are missing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.launcher = args.launcher
    config = Path(args.config)
    # With the folder's name: mixpro/x.py and cutmix/x.py must not share checkpoints.
    default = Path('work_dirs', config.resolve().parent.name, config.stem)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(default)
    check_method(cfg)
    check_compiled_ops(cfg)
    check_data_paths(cfg, dataloaders)
    use_faster_coco(cfg)
    for name in dataloaders:
        if cfg.get(name) is not None:
            set_dataloader_defaults(cfg, name, args)
    return cfg


def set_dataloader_defaults(cfg: Config, name: str, args: argparse.Namespace) -> None:
    """Fill in what a data loader leaves open, as the command line says, see :func:`add_arguments`."""
    loader = cfg[name]
    loader.setdefault('pin_memory', get_device() == 'cuda')
    # Training workers end with the epoch, or a resumed run would differ; see EpochSeedHook.
    loader.setdefault('persistent_workers', name != 'train_dataloader')
    if args.no_pin_memory:
        loader.pin_memory = False
    if getattr(args, 'no_persistent_workers', False) or not loader.get('num_workers'):
        loader.persistent_workers = False
    # mmpretrain's own tool sets it, so its configs do not; mmengine's default suits the others.
    if cfg.get('default_scope') == 'mmpretrain':
        loader.setdefault('collate_fn', dict(type='default_collate'))


def use_faster_coco(cfg: Config) -> None:
    """Evaluate on COCO by mmdet's faster metric where the package ``faster_coco_eval`` is installed.

    Both give the same figures. An evaluator written as ``mmdet.CocoMetric`` is left as it is.

    Args:
        cfg: A config of mmdet with ``CocoMetric``; any other is left alone.
    """
    evaluators = [cfg.get(name) or [] for name in ('val_evaluator', 'test_evaluator')]
    metrics = [metric for value in evaluators for metric in (value if isinstance(value, list) else [value])]
    coco = [metric for metric in metrics if metric.get('type') == 'CocoMetric']
    if cfg.get('default_scope') != 'mmdet' or not coco:
        return
    try:
        importlib.import_module('faster_coco_eval')
    except ImportError as error:
        print_log(f'COCO: CocoMetric ({error}). `pip install faster-coco-eval` evaluates faster.', logger='current')
        return
    with METRICS.switch_scope_and_registry('mmdet') as registry:
        if registry.get('FasterCocoMetric') is None:
            print_log('COCO: CocoMetric, for this mmdet has no FasterCocoMetric.', logger='current')
            return
    for metric in coco:
        metric['type'] = 'FasterCocoMetric'
    print_log('COCO: FasterCocoMetric, for faster_coco_eval is installed.', logger='current')


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest checkpoint of a run that is complete, or None where the run has saved none.

    A job killed while it wrote leaves an empty ``last_checkpoint`` behind, or one that points to
    half a file or to a file just deleted (``max_keep_ckpts=1``); mmengine looks no further.

    Args:
        work_dir: The folder of the run.

    Raises:
        FileNotFoundError: If the run has saved checkpoints, but none is complete.
    """
    last = Path(work_dir, 'last_checkpoint')
    named = Path(last.read_text().strip()) if last.is_file() else None
    saved = [path for kind in ('epoch', 'iter') for path in Path(work_dir).glob(f'{kind}_*.pth')]
    saved.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [named, *saved] if named else saved:
        # What torch.save writes is a zip file, whose table of contents comes last.
        if path.is_file() and zipfile.is_zipfile(path):
            if named and path != named:
                print_log(
                    f"'{named}', the last checkpoint, is missing or broken: resume from '{path}'.",
                    logger='current',
                    level=logging.WARNING,
                )
            return str(path)
    if named or saved:
        raise FileNotFoundError(
            f"--resume found no complete checkpoint in '{work_dir}': '{named or saved[0]}' is "
            'missing or broken. Name one (--resume FILE), or remove the folder to start anew.'
        )
    return None


def build_runner(cfg: Config) -> Runner:
    """Build the runner, over gloo where several ranks share no GPU.

    Raises:
        ValueError: If ranks without GPU are launched otherwise than by torchrun.
    """
    if cfg.launcher != 'none' and get_device() == 'cpu':
        open_process_group(cfg)
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def open_process_group(cfg: Config) -> None:
    """Open the process group of a launched run, which its runners then share; once it is open, do nothing.

    Without a GPU here and not in mmengine's own function, which would call ``torch.cuda.set_device`` first.

    Raises:
        ValueError: If ranks without GPU are launched otherwise than by torchrun.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    if get_device() != 'cpu':
        init_dist(cfg.launcher, **(cfg.get('env_cfg') or {}).get('dist_cfg', {}))
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} needs a GPU for each rank, found none. On CPUs, use '
            'tools/dist_train.sh or tools/dist_test.sh.'
        )
    torch.distributed.init_process_group('gloo')
