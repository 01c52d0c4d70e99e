# Copyright (c) MMMixPro contributors.
"""model-index.yml and the metafiles: complete, true to configs/README.md, and known to mmpretrain."""

import re
from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config
from modelindex.load_model_index import load

from mmmixpro import apis
from mmmixpro.models.classifiers import PALClassifier
from mmmixpro.utils.complexity import count

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
TABLE = (CONFIGS / 'README.md').read_text()
ABLATION = (CONFIGS / 'ablation/README.md').read_text()
# Folders without checkpoints of their own.
WITHOUT = {'demo', 'robustness'}
# MixPro's Table 2, of DeiT-S.
TABLE_2 = dict(baseline=78.6, gridmix=79.5, attentive_cutmix=77.5, saliencymix=79.2, puzzlemix=79.8, tokenmix=80.8)


@pytest.fixture(scope='module')
def index():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    return {model.name: model for model in index.models}


def figures(model):
    return {key: float(value) for result in model.results or [] for key, value in result.metrics.items()}


def test_every_config_has_its_entry(index, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sorted(index) == [name for name in apis.list_models() if name.split('/')[0] not in WITHOUT]
    for name, model in index.items():
        assert model.config == f'configs/{name}.py' and Path(model.config).is_file()
    for collection in load('model-index.yml').collections:
        assert Path(collection.readme).is_file() and Path(collection.code['URL']).exists()


def test_published_figures_are_called_so(index):
    """None of the models has been trained here: no weights, and no figure that could be taken for ours."""
    for model in index.values():
        assert not model.weights
        assert all(key.endswith(' (paper)') for key in figures(model))
    for path in CONFIGS.glob('*/metafile.yml'):
        assert 'No model of this file has been trained here; there are no weights.' in path.read_text().splitlines()[0]


def test_figures_of_imagenet_are_those_of_the_tables(index):
    expected = dict.fromkeys((name for name in index if name.split('/')[0] not in ('segmentation', 'detection')), {})
    rows = re.findall(r'`(\S+_8xb128_in1k)` .* (\d\d\.\d) / (\d\d\.\d) / (\d\d\.\d) \| no \|', TABLE)
    assert len(rows) == 14
    top1 = 'Top 1 Accuracy (paper)'
    for stem, *published in rows:
        # The paper's baselines are trained with Mixup and CutMix.
        for method, value in zip(('cutmix', 'transmix', 'mixpro'), published, strict=True):
            expected[f'{method}/{stem}'] = {top1: float(value)}
    for method, value in TABLE_2.items():
        expected[f'{method}/deit-s_8xb128_in1k'] = {top1: value}
    for stem, value in re.findall(r'\]\((\S+)\.py\) \| (\d\d\.\d)', ABLATION):
        expected[f'ablation/{stem}'] = {top1: float(value)}
    assert {name: figures(index[name]) for name in expected} == expected


def test_figures_of_downstream_tasks_are_those_of_the_tables(index):
    found = {name: figures(model) for name, model in index.items() if name.startswith(('segmentation/', 'detection/'))}
    expected = dict.fromkeys(found, {})
    for decoder in ('linear', 'segmenter'):
        row = next(line for line in TABLE.splitlines() if line.startswith(f'| `{decoder}_deit-s'))
        once, several = (float(cell.split('/')[-1]) for cell in row.split('|')[3:5])
        name = f'segmentation/{decoder}_deit-s_8xb2-80k_pascal-context-480x480'
        expected[name] = {'mIoU (paper)': once, 'mIoU(ms+flip) (paper)': several}
    row = next(line for line in TABLE.splitlines() if line.startswith('| `mask-rcnn_pvt-s'))
    box, mask = (float(cell.split('/')[-1].split('(')[0]) for cell in row.split('|')[2:4])
    expected['detection/mask-rcnn_pvt-s_fpn_1x_coco'] = {'box AP (paper)': box, 'mask AP (paper)': mask}
    assert found == expected


@pytest.mark.parametrize('stem', ['deit-t_8xb128_in1k', 'pvt-s_8xb128_in1k', 'cait-xxs24_8xb128_in1k'])
def test_size_is_counted(index, stem):
    counted = count(Config.fromfile(CONFIGS / f'baseline/{stem}.py').model)
    for name, model in index.items():
        if name.endswith(stem):
            assert model.metadata.data['Parameters'] == counted['params'], name
            assert model.metadata.data['FLOPs'] == counted['flops'], name


def test_sizes_are_those_of_the_table(index):
    for stem, params, flops in re.findall(r'`(\S+_8xb128_in1k)` \| ([\d.]+) \| ([\d.]+)', TABLE):
        for method in ('baseline', 'cutmix', 'transmix', 'mixpro'):
            size = index[f'{method}/{stem}'].metadata.data
            assert [round(size['Parameters'] / 1e6, 1), round(size['FLOPs'] / 1e9, 1)] == [float(params), float(flops)]


def test_epochs_are_those_of_the_config(index):
    for stem in ('deit-t_8xb128_in1k', 'xcit-s12_8xb128_in1k'):
        epochs = Config.fromfile(CONFIGS / f'mixpro/{stem}.py').train_cfg.max_epochs
        assert index[f'mixpro/{stem}'].metadata.data['Epochs'] == epochs


def test_mmpretrain_knows_the_classifiers_by_name(index):
    ours = [name for name in index if not name.startswith(('segmentation/', 'detection/'))]
    assert set(ours) <= set(mmpretrain.list_models()) and len(ours) > 150
    assert 'mixpro/deit-t_8xb128_in1k' in mmpretrain.list_models('mixpro/*', task='Image Classification')
    assert not mmpretrain.list_models('detection/')
    model = mmpretrain.get_model('mixpro/deit-t_8xb128_in1k', backbone=dict(arch='deit-t'))
    assert type(model) is PALClassifier
    assert model._metainfo.results[0].metrics == {'Top 1 Accuracy (paper)': 73.8}
