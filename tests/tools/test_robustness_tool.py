# Copyright (c) MMMixPro contributors.
"""The robustness tool on small models, with suites of mmpretrain's own metrics."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from small_suites import REFUSED, REFUSING_LOOP, SUITES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def world(tiny):
    """Two checkpoints of the small classifier, suites, and their data."""
    cfg = Config.fromfile(tiny.config, import_custom_modules=False)
    for name, seed in dict(one=0, two=1).items():
        torch.manual_seed(seed)
        model = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
        for param in model.parameters():
            torch.nn.init.normal_(param)
        torch.save(dict(state_dict=model.state_dict()), tiny.folder / f'{name}.pth')
    for name, text in SUITES.items():
        (tiny.folder / f'{name}.py').write_text(text)
    rng = np.random.default_rng(0)
    for name in ('noise', 'broken'):
        for label in 'ab':
            for i in range(5):
                path = tiny.folder / f'sets/{name}/{label}/{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    (tiny.folder / 'sets/broken/b/3.png').write_text('no image')
    (tiny.folder / 'sets/partial/a').mkdir(parents=True)
    return tiny


@pytest.fixture
def run(world, capsys, monkeypatch):
    """Run the tool in a folder of its own; gives what it printed and what it wrote."""
    monkeypatch.setenv('ROBUSTNESS_ROOT', 'set by the tool, and put back after the test')

    def run(out, *args, suite='clean.py,noise.py', models=('one', 'two'), code=None):
        first, *others = models
        also = [part for name in others for part in ('--also', world.config, f'{name}.pth')]
        command = [world.config, f'{first}.pth', *also, '--names', *models, '--data', 'sets', '--suite', suite]
        if code is None:
            world.tool('analysis/robustness.py', *command, '--out', out, *args)
        else:
            with pytest.raises(SystemExit) as exit:
                world.tool('analysis/robustness.py', *command, '--out', out, *args)
            assert code in str(exit.value)
        return capsys.readouterr().out, json.loads((world.folder / out / 'robustness.json').read_text())

    return run


def logs(world, out):
    """How often something was measured."""
    return len(list((world.folder / out / 'logs').glob('*/*/*/*.log')))


def test_two_models_side_by_side(world, run):
    said, record = run('whole')
    assert record['suites'] == ['clean', 'noise']
    assert [model['name'] for model in record['models']] == ['one', 'two']
    for model in record['models']:
        assert set(model) == {'name', 'config', 'checkpoint', 'sha256', 'suites'}
        for name, images in dict(clean=4, noise=10).items():
            result = model['suites'][name]
            assert (result['status'], result['images'], result['device']) == ('done', images, 'cpu')
            assert set(result) >= {'metrics', 'seconds', 'settings', 'date', 'warnings', 'note'}
            assert result['settings']['checkpoint'] == model['sha256']
    # Each weight file gives its own figures, those of tools/test.py.
    for model in record['models']:
        world.tool('test.py', world.config, model['checkpoint'], '--out', 'stock.json', '--work-dir', 'stock')
        stock = json.loads((world.folder / 'stock.json').read_text())
        assert model['suites']['clean']['metrics'] == {'accuracy/top1': stock['accuracy/top1']}
    one, two = (model['suites']['noise']['metrics'] for model in record['models'])
    assert list(one) == ['noise/top1', 'noise/mAP'] and one != two
    page = (world.folder / 'whole/robustness.html').read_text()
    assert 'CutMix' not in page and '<th scope="col" class="number">two</th>' in page
    assert f'{one["noise/mAP"]:.1f}' in page and f'{two["noise/mAP"]:.1f}' in page
    assert 'one, noise: done' in said and f'{two["noise/mAP"]:.1f}' in said

    # Again: nothing is measured; the figures are the same.
    assert logs(world, 'whole') == 4
    said, again = run('whole')
    assert said.count('measured before') == 4
    assert logs(world, 'whole') == 4
    assert again['models'] == record['models']


def test_what_has_changed_is_measured_again(world, run):
    run('changes', models=['one'])
    # One suite by its settings.
    options = ['--suite-options', 'noise.evaluator.0.prefix=other']
    said, record = run('changes', *options, models=['one'])
    assert 'one, clean: measured before' in said and 'one, noise: done' in said
    assert list(record['models'][0]['suites']['noise']['metrics']) == ['other/top1', 'noise/mAP']
    # Other weights under the same name.
    shutil.copy(world.folder / 'two.pth', world.folder / 'copy.pth')
    world.tool(
        'analysis/robustness.py', world.config, 'copy.pth', '--names', 'one', '--suite', 'clean.py', '--out', 'changes'
    )
    assert logs(world, 'changes') == 4
    # More data.
    image = world.folder / 'sets/noise/a/more.png'
    shutil.copy(world.folder / 'sets/noise/a/0.png', image)
    _, record = run('changes', models=['one'], suite='noise.py')
    image.unlink()
    assert record['models'][0]['suites']['noise']['images'] == 11
    # What is asked for.
    said, _ = run('changes', '--again', models=['one'], suite='noise.py')
    assert 'measured before' not in said


def test_brackets_in_a_reason_are_text(world, run):
    (world.folder / 'brackets.py').write_text("robustness = dict(evaluator=[dict(type='[/x]')])")
    said, record = run('brackets', suite='brackets.py,clean.py', models=['one'], code='1 failed, 0 skipped')
    suites = record['models'][0]['suites']
    assert '[/x]' in suites['brackets']['reason'] and suites['brackets']['reason'] in said
    assert suites['clean']['status'] == 'done'


def test_sets_of_other_classes_are_skipped(world, run):
    """Where the set names them, and where its labels alone tell."""
    for name in 'abc':
        (world.folder / f'sets/three/{name}').mkdir(parents=True)
        shutil.copy(world.folder / 'sets/noise/a/0.png', world.folder / f'sets/three/{name}')
    (world.folder / 'labels.txt').write_text('a/0.png 0\nc/0.png 4\n')
    (world.folder / 'a.txt').write_text('a/0.png 0\n')
    text = """
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/three', %s)
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])"""
    suites = dict(
        named='with_label=True', one="classes=['a'], ann_file='../../a.txt'", labelled="ann_file='../../labels.txt'"
    )
    for name, setting in suites.items():
        (world.folder / f'{name}.py').write_text(text % setting)
    said, record = run('classes', suite='named.py,one.py,labelled.py,clean.py', models=['one'])
    results = record['models'][0]['suites']
    for name, classes in dict(named=3, one=1, labelled=5).items():
        reason = f"the set's labels are of {classes} classes, the model has 2"
        assert results[name] == dict(status='skipped', reason=reason) and reason in said
    assert results['clean']['status'] == 'done'


def test_figures_that_are_lists(world, run):
    """They are left out, and named also when they are read back."""
    metric = "dict(type='SingleLabelMetric', average=None, items=['recall']), dict(type='Accuracy')"
    (world.folder / 'lists.py').write_text(f'robustness = dict(evaluator=[{metric}])')
    for outcome in ('done', 'measured before'):
        said, record = run('lists', suite='lists.py', models=['one'])
        assert list(record['models'][0]['suites']['lists']['metrics']) == ['accuracy/top1']
        assert 'single-label/recall_classwise is not one number and is left out' in said
        assert f'one, lists: {outcome}' in said
        assert ('one, lists: testing' in said) == (outcome == 'done')


def test_what_is_missing_is_named_and_the_rest_still_runs(world, run):
    suite = 'absent.py,partial.py,broken.py,clean.py'
    said, record = run('holes', suite=suite, models=['one'], code='2 failed, 1 skipped')
    results = record['models'][0]['suites']
    assert {name: result['status'] for name, result in results.items()} == {
        'absent': 'skipped', 'partial': 'failed', 'broken': 'failed', 'clean': 'done',
    }  # fmt: skip
    for name in ('absent', 'partial', 'broken'):
        assert f'sets/{name}' in results[name]['reason']
    page = (world.folder / 'holes/robustness.html').read_text()
    for name in ('absent', 'partial', 'broken'):
        assert f'one, {name}: {results[name]["status"]}, {results[name]["reason"]}' in said
        assert f'<strong>{name}</strong>, one: {results[name]["status"]}' in page
    assert 'Traceback' in (world.folder / 'holes/logs/one/broken/error.txt').read_text()
    # Mended, it is measured; the rest is not measured again.
    path = world.folder / 'sets/broken/b/3.png'
    path.unlink()
    said, record = run('holes', suite='broken.py,clean.py', models=['one'])
    path.write_text('no image')
    assert 'broken: done' in said and 'clean: measured before' in said
    assert record['models'][0]['suites']['broken']['images'] == 9
    assert not (world.folder / 'holes/logs/one/broken/error.txt').exists()


def test_nothing_measured_is_an_error(run):
    run('nothing', suite='absent.py', models=['one'], code='0 failed, 1 skipped')


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        (['--suite', 'clean.py,occultation'], ValueError, "No suite is named 'occultation'; there are"),
        (['--suite', 'clean.py,clean.py'], ValueError, 'suites of different names'),
        (['--suite', 'elsewhere.py'], FileNotFoundError, "found no 'elsewhere.py'"),
        (['--data', 'nowhere'], FileNotFoundError, "--data: .* found no 'nowhere'"),
        (['--names', 'one', 'two'], ValueError, '--names: expected 1 names'),
        (['--also', 'tiny.py', 'one.pth'], FileNotFoundError, "found no 'tiny.py'"),
        (['--also', '{config}', 'three.pth'], FileNotFoundError, "found no 'three.pth'"),
        (['--also', '{config}', 'clean.py'], ValueError, 'clean.py is no checkpoint'),
        (['--also', '{config}', 'two.pth'], ValueError, r"Models need names that differ.* got \['configs/tiny', 'con"),
        (['--suite-options', 'noisy.test_cfg.fp16=True'], ValueError, r"--suite-options: \['noisy'\] are none"),
        (['--cfg-options', 'model.head.num_classes=3'], ValueError, 'configs/tiny: .*one.pth'),
    ],
)
def test_mistakes_are_told_before_anything_runs(world, run, args, error, message):
    args = [arg.format(config=world.config) for arg in args]
    suite = [] if '--suite' in args else ['--suite', 'clean.py,noise.py']
    with pytest.raises(error, match=message):
        world.tool('analysis/robustness.py', world.config, 'one.pth', *suite, '--out', 'mistakes', *args)
    assert not (world.folder / 'mistakes').exists()


@pytest.mark.slow
def test_two_ranks_give_the_same_figures(world, run):
    _, alone = run('alone', models=['one'])
    arguments = ['one.pth', '2', '--names', 'one', '--data', 'sets', '--suite', 'clean.py,broken.py,noise.py']
    script = [ROOT / 'tools/dist_robustness.sh', world.config, *arguments, '--out', 'ranks']
    env = dict(
        os.environ,
        PYTHON=sys.executable,
        PYTHONPATH=str(world.folder),
        TINY_ROOT=str(world.folder / 'data'),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    # What only one rank meets amid its batches ends the run, and what was measured before is kept.
    process = subprocess.run(script, cwd=world.folder, env=env, capture_output=True, text=True)
    assert process.returncode and 'sets/broken/b/3.png' in process.stdout + process.stderr
    # What ranks meet before, one of them or all, leaves out that suite.
    with open(world.folder / 'probe.py', 'a') as probe:
        probe.write(REFUSING_LOOP)
    (world.folder / 'labels.txt').write_text('a/0.png 0\n')
    shutil.copytree(world.folder / 'sets/noise', world.folder / 'sets/rank0')
    for name, text in REFUSED.items():
        (world.folder / f'{name}.py').write_text(text)
    suites = ','.join(f'{name}.py' for name in ('absent', 'partial', *REFUSED))
    script[script.index('clean.py,broken.py,noise.py')] = f'clean.py,{suites},noise.py'
    process = subprocess.run(script, cwd=world.folder, env=env, capture_output=True, text=True)
    said = process.stdout + process.stderr
    assert '4 failed, 4 skipped' in said
    assert process.stdout.count('one, clean: measured before') == 1
    ranks = json.loads((world.folder / 'ranks/robustness.json').read_text())
    results = ranks['models'][0]['suites']
    for name, (status, reason) in dict(
        absent=('skipped', 'sets/absent'),
        partial=('failed', 'sets/partial'),
        foreign=('skipped', "the set's labels are of 3 classes, the model has 2"),
        apart=('skipped', 'sets/rank1'),
        guide=('skipped', "'nowhere.pth'"),
        hook=('failed', 'refused by rank 1'),
        first=('failed', 'first batch of rank 1'),
        grid=('failed', 'A grid of 33 x 33 patches does not fit'),
    ).items():
        assert results[name]['status'] == status and reason in results[name]['reason'], results[name]
        assert f'one, {name}: {status}, {results[name]["reason"]}' in process.stdout
    for name in ('clean', 'noise'):
        (first, second) = (record['models'][0]['suites'][name] for record in (alone, ranks))
        assert second['metrics'] == pytest.approx(first['metrics'], abs=1e-4)
        assert second['settings'] == first['settings']
