# Copyright (c) MMMixPro contributors.
"""The main job on small data: pretrain with MixPro, transfer, compare with training from scratch.

    python tools/demo.py                        # generated data, about 10 minutes on 2 cores
    python tools/demo.py --data DIR             # real images, about 20 minutes on 2 cores

Every stage is one run of tools/train.py on a config of configs/demo/, the command that a user would
type. Results: a table, results.json and report.html in the working directory. Ctrl-C loses the
running stage only: --from STAGE goes on there.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# What a run prints that tells how far it is; all of it goes to console.log.
PROGRESS = ('Epoch(train)', 'Iter(train)', 'Epoch(val)', 'Iter(val)')
console = Console(highlight=False)


@dataclass
class Stage:
    """One training run.

    Attributes:
        name: Folder of the run, and its name for --from.
        title: What a person calls it.
        group: Pretraining, segmentation or detection.
        config: Config in configs/demo/, ``{world}`` standing for the data.
        metric: What it is judged by, as mmengine logs it.
        init: What the backbone starts from, for people.
        pretrained: Stage whose checkpoint that is.
    """

    name: str
    title: str
    group: str
    config: str
    metric: str
    init: str | None = None
    pretrained: str | None = None


# fmt: off
STAGES = [
    Stage('pretrain-deit', 'DeiT with MixPro', 'pretraining', 'deit_{world}.py', 'accuracy/top1'),
    Stage('segment-mixpro', 'Segmenter, DeiT from MixPro', 'segmentation', 'segmenter_deit_{world}.py', 'mIoU',
          'MixPro', 'pretrain-deit'),
    Stage('segment-scratch', 'Segmenter, DeiT from scratch', 'segmentation', 'segmenter_deit_{world}_scratch.py',
          'mIoU', 'scratch'),
    Stage('pretrain-pvt', 'PVT with MixPro', 'pretraining', 'pvt_{world}.py', 'accuracy/top1'),
    Stage('detect-mixpro', 'Mask R-CNN, PVT from MixPro', 'detection', 'mask-rcnn_pvt_{world}.py', 'coco/bbox_mAP',
          'MixPro', 'pretrain-pvt'),
    Stage('detect-scratch', 'Mask R-CNN, PVT from scratch', 'detection', 'mask-rcnn_pvt_{world}_scratch.py',
          'coco/bbox_mAP', 'scratch'),
]
# fmt: on


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--data',
        type=Path,
        metavar='DIR',
        help='folder of the real-image packs (with unpack.py), or of the unpacked ones',
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/demo/{shapes,real}')
    parser.add_argument(
        '--from',
        dest='start',
        choices=[stage.name for stage in STAGES],
        default=STAGES[0].name,
        help='go on at this stage, with what the ones before left in the working directory',
    )
    return parser.parse_args()


def prepare_data(source: Path | None) -> tuple[str, dict[str, str]]:
    """Name of the data, and the environment by which the configs find it."""
    if source is None:
        from mmmixpro.datasets.shapes import prepare_shapes

        return 'shapes', dict(SHAPES_ROOT=str(prepare_shapes()))
    packs = ('tinyimagenet64c', 'camvid', 'coco_mini')
    if (source / 'unpack.py').is_file():
        source = unpack(source.resolve())
    missing = [pack for pack in packs if not (source / pack).is_dir()]
    if missing:
        raise SystemExit(
            f'--data {source}: expected unpack.py or the folders {", ".join(packs)} there; '
            f'{", ".join(missing)} missing.'
        )
    return 'real', dict(REAL_ROOT=str(source.resolve()))


def unpack(packs: Path) -> Path:
    """Unpack the real images, once, and say where they lie."""
    target = ROOT / 'data' / 'demo'
    marker = target / 'unpacked_from.txt'
    if not (marker.is_file() and marker.read_text() == str(packs)):
        partial = target.with_name('demo.partial')
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run([sys.executable, packs / 'unpack.py', partial, '--classes', '10'], check=True)
        (partial / marker.name).write_text(str(packs))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return target


def train(stage: Stage, world: str, work_dir: Path, env: dict[str, str]) -> dict:
    """Run one stage; what is known of it afterwards."""
    config = ROOT / 'configs' / 'demo' / stage.config.format(world=world)
    target = work_dir / stage.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir', str(target)]
    if stage.pretrained:
        checkpoint = last_checkpoint(work_dir / stage.pretrained)
        command += ['--cfg-options', f'model.backbone.init_cfg.checkpoint={checkpoint}']
    console.rule(f'[bold]{stage.title}')
    console.print(f'[dim]{shlex.join(command)}', soft_wrap=True)
    start = time.perf_counter()
    first_line = stream(command, target / 'console.log', env)
    return dict(
        asdict(stage),
        config=str(config.relative_to(ROOT)),
        work_dir=str(target),
        seconds=time.perf_counter() - start,
        first_line_seconds=first_line - start,
    )


def stream(command: list[str], log: Path, env: dict[str, str]) -> float:
    """Run a command, show its progress and log everything; when its first training line came."""
    first_line = None
    with (
        log.open('w') as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | env
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if any(mark in line for mark in PROGRESS):
                first_line = first_line or time.perf_counter()
                console.print(line.rstrip(), soft_wrap=True, markup=False)
    if process.returncode:
        tail = ''.join(log.read_text().splitlines(keepends=True)[-25:])
        raise SystemExit(
            f'{tail}\nThe command above ended with {process.returncode}; all of its output: {log}\n'
            f'Once that is mended, go on there: add --from {log.parent.name}'
        )
    return first_line or time.perf_counter()


def last_checkpoint(work_dir: Path) -> Path:
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        raise SystemExit(f'{work_dir} holds no checkpoint: run its stage first (--from {work_dir.name}).')
    return Path(pointer.read_text().strip())


def main() -> None:
    args = parse_args()
    world, env = prepare_data(args.data)
    work_dir = (args.work_dir or ROOT / 'work_dirs' / 'demo' / world).resolve()
    record = work_dir / 'stages.json'
    first = [stage.name for stage in STAGES].index(args.start)
    done = json.loads(record.read_text())['stages'][:first] if first and record.is_file() else []
    if len(done) < first:
        raise SystemExit(
            f'--from {args.start}: {record} lacks the stages before it; go on at {STAGES[len(done)].name}.'
        )
    for stage in STAGES[first:]:
        if stage.group == 'detection':
            # Minutes of compilation, once per machine, and not before they are needed.
            build = [sys.executable, '-m', 'mmmixpro.utils.build_ops']
            if subprocess.run(build, cwd=ROOT).returncode:
                raise SystemExit(f'Mend that, then go on here: add --from {stage.name}')
        done.append(train(stage, world, work_dir, env))
        result = dict(
            data=world, command=shlex.join(sys.argv), seconds=sum(stage['seconds'] for stage in done), stages=done
        )
        record.write_text(json.dumps(result, indent=2))
    subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'demo_report.py'), str(work_dir)], check=True, env=os.environ | env
    )


if __name__ == '__main__':
    main()
