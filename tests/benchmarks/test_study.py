# Copyright (c) MMMixPro contributors.
import json
import statistics

import numpy as np
import pytest
import study
import study_data
import study_train
import torch
from harness import find_methods
from PIL import Image

SETS = dict(train=12, val=4)  # images a class
CLASSES = ('n01', 'n02', 'n03')
METHODS = ('baseline', 'mixpro')


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Three classes: dark, middling and bright images."""
    root = tmp_path_factory.mktemp('images')
    draw = np.random.default_rng(0)
    for split, num in SETS.items():
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(num):
                pixels = draw.integers(80 * label, 80 * label + 60, (64, 64, 3), np.uint8)
                # A grey image among them, as in ImageNet.
                image = Image.fromarray(pixels).convert('RGB' if index else 'L')
                image.save(root / split / name / f'{index}.JPEG')
    return root


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The methods' own configs, with a narrow DeiT of two layers."""
    paths = {}
    for name, path in find_methods('deit-t').items():
        paths[name] = tmp_path / f'{name}.py'
        arch = 'dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)'
        paths[name].write_text(
            f'_base_ = {str(path)!r}\nmodel = dict(backbone=dict(arch={arch}), head=dict(in_channels=32))\n'
        )
    for module in (study, study_train):
        monkeypatch.setattr(module, 'find_methods', lambda model: paths)


@pytest.fixture
def options(folder, tmp_path):
    """Options of a study of seconds."""

    def options(*more, methods=METHODS, seeds=(0, 1)):
        sizes = ['--device', 'cpu', '--classes', '3', '--epochs', '1', '--batch-size', '8', '--lr', '1e-3']
        where = ['--data', str(folder), '--work-dir', str(tmp_path / 'runs'), '--out', str(tmp_path / 'study.json')]
        return [*sizes, *where, '--methods', *methods, '--seeds', *map(str, seeds), *more]

    return options


def refuse_training(*_):
    pytest.fail('trained')


def coordinates(num):
    """Images whose pixels tell their index, row and column."""
    index, row, column = torch.meshgrid(torch.arange(num), torch.arange(64), torch.arange(64), indexing='ij')
    return torch.stack([index, row, column], 1).byte()


def test_crops_move_and_mirror_whole_images():
    images, indices = coordinates(200), torch.randperm(200)
    out = study_data.crop_and_flip(images, indices, torch.Generator().manual_seed(0))
    assert out.dtype == torch.uint8 and out.shape == images.shape
    assert (out[:, 0] == indices[:, None, None]).all()
    inner = out[:, :, 8:-8, 8:-8].int()
    assert (inner[:, 1].diff(dim=1) == 1).all() and (inner[:, 1].diff(dim=2) == 0).all()
    steps = inner[:, 2].diff(dim=2)
    mirrored = (steps == -1).all(2).all(1)
    assert (mirrored | (steps == 1).all(2).all(1)).all()
    assert 60 < mirrored.sum() < 140
    shifts = inner[:, 1, 0, 0] - 8
    assert (shifts.min(), shifts.max()) == (-6, 6)
    assert len(shifts.unique()) == 13
    columns = torch.where(mirrored, 63 - inner[:, 2, 0, 0], inner[:, 2, 0, 0]) - 8
    assert (columns.min(), columns.max()) == (-6, 6)
    assert not torch.equal(shifts, columns)


def test_crops_reflect_at_borders():
    images = coordinates(50)
    out = study_data.crop_and_flip(images, torch.arange(50), torch.Generator().manual_seed(0))
    rows = out[:, 1, :, 0].int()
    down = rows[:, 32] == 32 - 6
    assert down.any()
    assert (rows[down][:, :8] == torch.tensor([6, 5, 4, 3, 2, 1, 0, 1])).all()
    up = rows[:, 32] == 32 + 6
    assert (rows[up][:, -8:] == torch.tensor([62, 63, 62, 61, 60, 59, 58, 57])).all()


def test_crops_follow_their_own_seed():
    images, indices = coordinates(20), torch.arange(20)
    first = study_data.crop_and_flip(images, indices, torch.Generator().manual_seed(3))
    torch.rand(5), np.random.rand(5)
    again = study_data.crop_and_flip(images, indices, torch.Generator().manual_seed(3))
    other = study_data.crop_and_flip(images, indices, torch.Generator().manual_seed(4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_occlusion_blacks_out_exactly_half_of_the_patches():
    images = torch.full((30, 3, 64, 64), 200, dtype=torch.uint8)
    out = study_data.occlude(images, 8)
    assert out.dtype == torch.uint8 and set(out.unique().tolist()) == {0, 200}
    assert (images == 200).all()
    patches = out.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(30, 64, -1)
    black = (patches == 0).all(2)
    assert (black | (patches == 200).all(2)).all()
    assert (black.sum(1) == 32).all()
    assert len(black.unique(dim=0)) == 30
    assert torch.equal(out, study_data.occlude(images, 8))
    assert not torch.equal(out, study_data.occlude(images, 8, seed=1))


@pytest.mark.parametrize(('mask_size', 'expected'), [(64, 16), (56, 16), (32, 8), (112, 32), (8, 8)])
def test_mask_cells_keep_their_share_of_the_image(mask_size, expected, tmp_path, options):
    config = tmp_path / 'config.py'
    mixer = f"dict(type='MixProBatchAugment', mask_size={mask_size})"
    config.write_text(
        f'_base_ = {str(find_methods("deit-t")["mixpro"])!r}\n'
        f'model = dict(train_cfg=dict(augments=[{mixer}], probs=[1.0]))\n'
    )
    cfg = study_train.study_config(config, study.parse_args(options()))
    assert cfg.model.train_cfg.augments == [dict(type='MixProBatchAugment', mask_size=expected)]


def test_configs_change_in_sizes_and_rate_only(options):
    args = study.parse_args(options('--precision', 'bf16'))
    for name, path in find_methods('deit-t').items():
        old, new = study_train.Config.fromfile(path), study_train.study_config(path, args)
        assert {line.split(' ')[0] for line in study._differences(old.model.to_dict(), new.model.to_dict())} <= {
            'backbone.img_size',
            'backbone.patch_size',
            'head.num_classes',
            'train_cfg.augments',
        }, name
        assert new.data_preprocessor == dict(old.data_preprocessor, num_classes=3, to_rgb=False)
        assert new.optim_wrapper.optimizer == dict(old.optim_wrapper.optimizer, lr=1e-3, fused=True)
        assert new.optim_wrapper.clip_grad == old.optim_wrapper.clip_grad


def test_learning_rate_warms_up_and_falls():
    rates = [study_train.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1 and rates == rates[:10] + sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert study_train.learning_rate(0, 1) == 1


def test_images_are_read_as_rgb_with_their_labels(folder):
    images, labels = study_data.load_images(folder, 'train', 2, torch.device('cpu'))
    assert images.shape == (24, 3, 64, 64) and images.dtype == torch.uint8
    assert labels.tolist() == 12 * [0] + 12 * [1]
    assert (images.float().mean((1, 2, 3)) > 70).long().equal(labels)
    red = Image.fromarray(np.broadcast_to(np.uint8([250, 100, 0]), (64, 64, 3)).copy())
    (folder / 'red/n01').mkdir(parents=True)
    red.save(folder / 'red/n01/0.JPEG')
    images, _ = study_data.load_images(folder, 'red', 1, torch.device('cpu'))
    assert (images[0].float().mean((1, 2)) - torch.tensor([250.0, 100.0, 0.0])).abs().max() < 4


def test_study_end_to_end(small, options, tmp_path, monkeypatch, capsys):
    study.main(options())
    result = json.loads((tmp_path / 'study.json').read_text())
    assert list(result['methods']) == list(METHODS)
    assert 'too small to rank methods' in result['size'] and 'seeds: 2' in result['size']
    out = capsys.readouterr().out
    assert 'too small to rank methods' in out and '±' in out
    for name, values in result['methods'].items():
        assert values['seeds'] == [0, 1] and values['top1']['n'] == 2
        assert all(0 <= values[metric]['mean'] <= 100 for metric in ('top1', 'ece', 'top1_occluded'))
        assert values['images_per_s']['mean'] > 0
        assert [len(curve) for curve in values['curves']] == [1, 1], name
        assert all(0 < curve[0]['loss'] < 3 for curve in values['curves'])
    assert result['commit'] and result['seed'] == [0, 1]

    # A second time everything is there already; a run that is lost comes out the same again.
    lost = tmp_path / 'runs/mixpro_seed1.json'
    before = json.loads(lost.read_text())
    monkeypatch.setattr(study, 'train', refuse_training)
    study.main(options())
    assert '4 runs, 4 of them done already' in capsys.readouterr().out
    lost.rename(lost.with_suffix('.part'))
    monkeypatch.setattr(study, 'train', study_train.train)
    study.main(options())
    assert '4 runs, 3 of them done already' in capsys.readouterr().out
    after = json.loads(lost.read_text())
    assert all(after[key] == before[key] for key in ('top1', 'ece', 'top1_occluded', 'curve', 'settings'))


def test_methods_see_the_same_batches(small, options, monkeypatch):
    seen = []
    monkeypatch.setattr(study_train, 'crop_and_flip', record := _recorder(seen))
    args = study.parse_args(options('--precision', 'fp32'))
    for method in ('baseline', 'cutmix', 'transmix', 'mixpro'):
        study_train.train(args, method, seed=1)
    assert record.calls == 4 * 4
    first, *others = (torch.stack(seen[start : start + 4]) for start in range(0, 16, 4))
    assert all(torch.equal(first, other) for other in others)


def _recorder(seen):
    def record(images, indices, generator):
        record.calls += 1
        out = study_data.crop_and_flip(images, indices, generator)
        seen.append(out)
        return out

    record.calls = 0
    return record


def test_occluded_images_are_black_before_normalisation(small, options, monkeypatch):
    seen = []
    monkeypatch.setattr(study_train, 'predict', lambda model, images: seen.append(images) or torch.eye(3)[[0] * 12])
    study_train.train(study.parse_args(options('--precision', 'fp32')), 'baseline', 0)
    plain, occluded = seen
    assert occluded.dtype == torch.uint8
    assert ((occluded == 0) | (occluded == plain)).all()
    # The classes' images are uniform noise: none of their patches is black.
    assert (occluded.unfold(2, 8, 8).unfold(3, 8, 8).amax((1, 4, 5)) == 0).sum((1, 2)).tolist() == 12 * [32]


def test_parallel_runs(options, tmp_path, monkeypatch):
    done = []

    class Pool:
        def __init__(self, *args, **kwargs):
            done.append((args[0], kwargs['initargs']))

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731
        map = map

    monkeypatch.setattr(study, 'ProcessPoolExecutor', Pool)
    monkeypatch.setattr(study, 'run', lambda args, each: done.append(each))
    monkeypatch.setattr(study.os, 'sched_getaffinity', lambda _: range(16))
    study.run_all(study.parse_args(options('--parallel', '3')), [('baseline', 0), ('mixpro', 0)])
    assert done == [(3, (5,)), ('baseline', 0), ('mixpro', 0)]


@pytest.fixture
def finished(small, options, tmp_path, monkeypatch):
    """A finished run of the baseline, without training."""
    result = dict(top1=50.0, ece=5.0, top1_occluded=30.0, images_per_s=10.0, curve=[dict(loss=1.0, top1=50.0)])
    monkeypatch.setattr(study, 'train', lambda *_: result)
    study.main(options(methods=['baseline'], seeds=[0]))
    monkeypatch.setattr(study, 'train', refuse_training)
    return tmp_path / 'runs/baseline_seed0.json'


def test_other_settings_are_refused(finished, options):
    with pytest.raises(
        ValueError, match=r'baseline_seed0.json .*: optim_wrapper.optimizer.lr was 0.001, now 0.002\. .* --work-dir'
    ):
        study.main(options('--lr', '2e-3', methods=['baseline'], seeds=[0]))
    with pytest.raises(ValueError, match='epochs was 1, now 2. Give'):
        study.main(options('--epochs', '2', methods=['baseline'], seeds=[0]))
    stored = json.loads(finished.read_text())
    stored['settings']['model']['head']['in_channels'] = 7
    finished.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match='model.head.in_channels was 7, now 32'):
        study.main(options(methods=['baseline'], seeds=[0]))


def test_device_share_is_no_setting(finished, options):
    study.main(options('--parallel', '2', methods=['baseline'], seeds=[0]))


def test_file_cut_short_does_not_count(finished, options):
    args = study.parse_args(options())
    assert study.is_done(args, 'baseline', 0) and not study.is_done(args, 'baseline', 1)
    finished.write_text(finished.read_text()[:100])
    assert not study.is_done(args, 'baseline', 0)


def test_failed_run_leaves_no_file(small, options, tmp_path, monkeypatch):
    monkeypatch.setattr(study, 'train', lambda *_: dict(top1=object()))
    with pytest.raises(TypeError):
        study.main(options(methods=['baseline'], seeds=[0]))
    assert not list((tmp_path / 'runs').glob('*.json'))


def runs(values, method='mixpro'):
    rest = dict(curve=[], parallel=1, provenance=dict(commit='abc'))
    return [
        dict(settings=dict(method=method, seed=seed), **dict.fromkeys(study.METRICS, value), **rest)
        for seed, value in enumerate(values)
    ]


def test_aggregate_gives_mean_and_deviation_of_the_sample():
    result = study.aggregate(runs([40.0, 44.0]) + runs([1.0, 2.0, 6.0], 'baseline'))
    assert result['mixpro']['top1'] == dict(mean=42.0, std=pytest.approx(8**0.5), n=2, values=[40.0, 44.0])
    assert result['baseline']['ece'] == dict(mean=3.0, std=statistics.stdev([1, 2, 6]), n=3, values=[1.0, 2.0, 6.0])


def test_one_seed_has_no_deviation(finished, options, tmp_path, capsys):
    assert study.aggregate(runs([40.0]))['mixpro']['top1'] == dict(mean=40.0, std=None, n=1, values=[40.0])
    study.main(options(methods=['baseline'], seeds=[0]))
    assert '±' not in capsys.readouterr().out.split('\n', 2)[2]
    assert json.loads((tmp_path / 'study.json').read_text())['methods']['baseline']['top1']['std'] is None


@pytest.mark.parametrize(
    ('size', 'too_small'),
    [((64, 30, 3), False), ((63, 30, 3), True), ((64, 29, 3), True), ((64, 30, 2), True), ((99, 99, 9), False)],
)
def test_small_studies_say_so(size, too_small, options):
    classes, epochs, seeds = size
    more = ['--classes', str(classes), '--epochs', str(epochs)]
    words = study.size_of_study(study.parse_args(options(*more, seeds=range(seeds))))
    assert words.startswith(f'classes: {classes}, epochs: {epochs}, seeds: {seeds}')
    assert words.endswith('too small to rank methods') == too_small


def test_defaults_follow_the_device():
    cpu, gpu = (study.parse_args(['--data', 'x', '--device', device]) for device in ('cpu', 'cuda:0'))
    assert (cpu.classes, cpu.seed, cpu.precision) == (10, [0, 1], 'fp32')
    assert (gpu.classes, gpu.epochs, gpu.seed, gpu.precision) == (64, 30, [0, 1, 2], 'bf16')
    assert study.choose_methods(cpu) == ['baseline', 'cutmix', 'transmix', 'mixpro']
    assert study.choose_methods(gpu) == list(find_methods('deit-t'))


@pytest.mark.parametrize(
    ('more', 'error', 'match'),
    [
        (['--methods', 'mixup'], ValueError, r"methods \['mixup'\]; those with one: \['baseline', '"),
        (['--classes', '4'], ValueError, 'holds 3 classes, fewer than 4: set --classes 3'),
        (['--data', 'nowhere'], FileNotFoundError, r'nowhere.train is no folder.*--data'),
        (['--model', 'deit-x'], ValueError, 'deit-x'),
        (['--model', 'pvt-t'], ValueError, 'PVT has no patch_size'),
        (['--batch-size', '37'], ValueError, '36 training images'),
        (['--epochs', '0'], SystemExit, '2'),
        (['--device', 'meta'], SystemExit, '2'),
    ],
)
def test_mistakes_are_named(more, error, match, options):
    with pytest.raises(error, match=match):
        study.main(options(*more))


def test_bad_images_are_named(tmp_path):
    for split in ('train', 'val'):
        (tmp_path / split / 'n01').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no \*.JPEG in \['n01'\]"):
        study_data.list_images(tmp_path, 'train', 1)
    Image.new('RGB', (65, 64)).save(tmp_path / 'train/n01/wide.JPEG')
    with pytest.raises(ValueError, match=r'wide.JPEG has 65 x 64 px, expected 64 x 64'):
        study_data.load_images(tmp_path, 'train', 1, torch.device('cpu'))


def test_classes_of_both_splits_must_agree(tmp_path, options):
    for name in ('train/n01', 'train/n02', 'val/n02', 'val/n03'):
        (tmp_path / name).mkdir(parents=True)
        Image.new('RGB', (64, 64)).save(tmp_path / name / '0.JPEG')
    with pytest.raises(ValueError, match=r"\['n01', 'n02'\], are not those of val, \['n02', 'n03'\]"):
        study.main(options('--data', str(tmp_path), '--classes', '2'))


def test_teacher_is_trained_first_and_guides(options, capsys, tmp_path):
    """Attentive CutMix takes the backbone that the study's teacher ended with; a teacher is not trained twice."""
    argv = options(methods=['attentive_cutmix'], seeds=(1,))
    study.main(argv)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if 'epoch 1/1' in line] == [
        'teacher',
        'attentive_cutmix',
    ]
    results = json.loads((tmp_path / 'study.json').read_text())['methods']
    assert results['attentive_cutmix']['seeds'] == [1] and results['teacher']['seeds'] == [0]
    args = study.parse_args(argv)
    model = study_train.build_classifier(study_train.run_config('attentive_cutmix', args), torch.device('cpu'))
    weights = torch.load(study_train.teacher_path(args), weights_only=True)['state_dict']
    loaded = model.augment.augments[0].teacher.module.state_dict()
    assert loaded and all(torch.equal(value, weights[f'backbone.{name}']) for name, value in loaded.items())

    study_train.teacher_path(args).unlink()
    assert not study.is_done(args, 'teacher', 0)
