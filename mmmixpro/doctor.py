# Copyright (c) MMMixPro contributors.
"""What this machine has of what MMMixPro needs, and what to do: ``mmmixpro doctor``, ``python -m mmmixpro.doctor``.

One line for each check: ``ok``, ``fix`` with the mend, or ``--`` where nothing has to be done. The exit status is 0
where nothing is to be fixed. It runs where ``import mmmixpro`` fails: what may be broken is not imported at the top.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from .utils.cache import cache_root
from .utils.compat import HOSTS, installation, require

TESTED_PYTHON = ((3, 10), (3, 13))
# What is needed by one task alone.
OPTIONAL = dict(mmseg='segmentation', mmdet='detection')
ONE_STEP = 'from mmmixpro.doctor import one_step; print(one_step())'
# {{$IMAGENET_ROOT:data/imagenet}} in a config.
DATA_ROOT = re.compile(r'\{\{\$(\w+_ROOT):([^}]*)\}\}')


class Check(NamedTuple):
    """What was looked at and found; ``mend`` is a command, and empty where nothing is to be fixed."""

    status: str
    found: str
    mend: str = ''


def check_python() -> Iterator[Check]:
    oldest, newest = TESTED_PYTHON
    tested = f'tested with {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}'
    found = f'Python {".".join(map(str, sys.version_info[:3]))} ({tested})'
    yield Check('ok' if oldest <= sys.version_info[:2] <= newest else '--', found)


def check_hosts(names: Iterable[str]) -> Iterator[Check]:
    """Import host libraries one after another; what builds on a broken one is not imported."""
    broken = ''
    for name in names:
        missing = importlib.util.find_spec(name) is None
        if name in OPTIONAL and missing:
            yield Check('--', f'{name}: none; {OPTIONAL[name]} alone needs it: {installation(name)}')
        elif broken and not missing:
            yield Check('--', f'{name}: not looked at before {broken} is mended')
        else:
            check = _host(name)
            broken = broken or (name if check.mend else '')
            yield check


def _host(name: str) -> Check:
    # They warn and print while they are imported.
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter('ignore')
        try:
            require(name)
        except ImportError as error:
            mend = installation(name)
            return Check('fix', str(error).removesuffix(mend).rstrip(' :;'), mend)
    return Check('ok', f'{name} {sys.modules[name].__version__} (supported: {HOSTS[name].supported})')


def check_numpy() -> Iterator[Check]:
    import numpy
    import torch

    try:
        torch.ones(1).numpy()
    except RuntimeError as error:
        found = f'numpy {numpy.__version__}: torch {torch.__version__} cannot use it ({error})'
        yield Check('fix', found, "pip install 'numpy<2'")
    else:
        yield Check('ok', f'numpy {numpy.__version__}')


def check_ops() -> Iterator[Check]:
    from .utils.build_ops import has_mmcv_ops

    if has_mmcv_ops():
        yield Check('ok', "mmcv's compiled ops")
    elif sys.modules.get('mmdet'):
        yield Check(
            'fix',
            "mmcv's compiled ops: none that load; detection alone needs them (4 to 12 minutes on 2 cores)",
            'python -m mmmixpro.utils.build_ops',
        )
    else:
        yield Check('--', "mmcv's compiled ops: none; detection alone needs them")


def check_gpu() -> Iterator[Check]:
    import torch

    if not torch.cuda.is_available():
        yield Check('--', f'GPU: none that torch {torch.__version__} can use; it runs on the CPU')
        return
    for index in range(torch.cuda.device_count()):
        bf16 = 'with' if torch.cuda.is_bf16_supported() else 'without'
        yield Check(
            'ok', f'GPU {index}: {torch.cuda.get_device_name(index)}, CUDA {torch.version.cuda}, {bf16} bfloat16'
        )


def check_data() -> Iterator[Check]:
    """The data roots that the configs name; none of them is needed to be ready."""
    configs = Path(__file__).parent / '.mim' / 'configs' / '_base_'
    roots = {root for path in sorted(configs.rglob('*.py')) for root in DATA_ROOT.findall(path.read_text())}
    for variable, default in sorted(roots):
        root = os.environ.get(variable, default)
        where = f'${variable} = {root}' if variable in os.environ else f'{root} (${variable} is not set)'
        there = Path(root.rpartition('://')[2]).exists()
        yield Check('ok' if there else '--', f'data: {where}' + ('' if there else ', not there'))


def check_cache() -> Iterator[Check]:
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        yield Check('fix', f'cache {root}: cannot be written ({reason})', 'export MMMIXPRO_CACHE=FOLDER_OF_YOURS')
    else:
        yield Check('ok', f'cache {root}')


def check_step() -> Iterator[Check]:
    """Train one step in a process of its own, as a user's would begin."""
    run = subprocess.run([sys.executable, '-W', 'ignore', '-c', ONE_STEP], capture_output=True, text=True)
    if run.returncode == 0:
        yield Check('ok', run.stdout.splitlines()[-1])
        return
    reason = (run.stderr.strip().splitlines() or [f'exit status {run.returncode}'])[-1]
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+).*", reason)
    mend = f'pip install {missing[1]}' if missing else f'{sys.executable} -c "import mmmixpro"  # shows all of it'
    yield Check('fix', f'one training step: {reason}', mend)


def one_step() -> str:
    """Train a tiny PALClassifier for one step on random images, on a GPU if there is one.

    Returns:
        str: What was done, in a line.

    Raises:
        RuntimeError: If the loss, a gradient or a weight is not finite.
    """
    import torch
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    start = time.perf_counter()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    model = MODELS.build(
        dict(
            type='PALClassifier',
            backbone=dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8),
            head=dict(type='VisionTransformerClsHead', num_classes=4, in_channels=16),
            train_cfg=dict(augments=[dict(type='MixProBatchAugment', mask_size=8)]),
        )
    ).to(device)
    model.init_weights()
    samples = [DataSample().set_gt_score(score) for score in torch.eye(4, device=device)]
    loss = model(torch.randn(4, 3, 32, 32, device=device), samples, mode='loss')['loss']
    optimizer = torch.optim.AdamW(model.parameters())
    loss.backward()
    optimizer.step()
    tensors = [loss, *model.parameters(), *(param.grad for param in model.parameters())]
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise RuntimeError(f'the loss ({loss.item()}), a gradient or a weight is not finite')
    seconds = time.perf_counter() - start
    return f'one training step, MixPro on a tiny DeiT ({device}): loss {loss.item():.3f}, {seconds:.1f} s'


def show(*checks: Iterator[Check]) -> list[str]:
    """Print a line for each check, and return the mends."""
    mends = []
    for check in chain(*checks):
        print(f'{check.status:<4} {check.found}' + (f': {check.mend}' if check.mend else ''), flush=True)
        mends += [check.mend] if check.mend else []
    return mends


def main() -> None:
    """Check everything, and end with what to do."""
    mends = show(check_python(), check_hosts(name for name in HOSTS if name not in OPTIONAL))
    mends = mends or show(check_numpy())
    runs = not mends
    detection = []
    if runs:
        mends += show(check_hosts(OPTIONAL))
        detection = show(check_ops())
        mends += show(check_gpu())
    mends += show(check_data(), check_cache())
    if runs:
        mends += show(check_step())
    if mends:
        print('\nNot ready. Run this, then the doctor again:')
        print('\n'.join(f'  {mend}' for mend in dict.fromkeys(mends)))
        sys.exit(1)
    print('\nready: tools/train.py CONFIG in a checkout, mim train mmmixpro CONFIG elsewhere')
    for mend in detection:
        print(f'but for detection, which needs: {mend}')


def command() -> None:
    """The command ``mmmixpro``."""
    parser = argparse.ArgumentParser(prog='mmmixpro', description='Mixing augmentations for Vision Transformers')
    commands = parser.add_subparsers(title='commands', required=True)
    commands.add_parser('doctor', help='check this machine and say what to do')
    parser.parse_args()
    main()


if __name__ == '__main__':
    main()
