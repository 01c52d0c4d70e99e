# Copyright (c) MMMixPro contributors.
import sys
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from torch import nn

from mmmixpro.engine import PreflightHook, preflight


def loader(**dataset):
    return dict(dataset=dict(pipeline=[], **dataset))


def check_paths(scope, **dataset):
    cfg = Config(dict(default_scope=scope, train_dataloader=loader(**dataset)))
    preflight.check_data_paths(cfg, ('train_dataloader', 'val_dataloader'))


class TestDataPaths:
    # fmt: off
    DATASETS = [
        ('mmpretrain', dict(type='ImageNet', split='train'), ['train']),
        ('mmpretrain', dict(type='mmpretrain.CustomDataset', data_prefix='a', ann_file='a.txt'),
         ['a', 'a.txt']),
        ('mmseg', dict(type='BaseSegDataset', data_prefix=dict(img_path='img', seg_map_path='ann')),
         ['img', 'ann']),
        ('mmseg', dict(type='PascalContextDataset', ann_file='train.txt',
                       data_prefix=dict(img_path='img', seg_map_path='ann')),
         ['train.txt', 'img', 'ann']),
        ('mmdet', dict(type='CocoDataset', ann_file='a.json', data_prefix=dict(img='images')),
         ['a.json', 'images']),
    ]
    # fmt: on

    @pytest.mark.parametrize(('scope', 'dataset', 'paths'), DATASETS)
    def test_each_missing_path_is_named(self, tmp_path, scope, dataset, paths):
        pytest.importorskip(scope)
        root = tmp_path / 'root'
        dataset = dict(dataset, data_root=str(root))
        for path in ['', *paths]:
            with pytest.raises(FileNotFoundError) as error:
                check_paths(scope, **dataset)
            assert str(error.value).startswith(f"train_dataloader: {dataset['type']} expects '")
            (root / path).mkdir(parents=True)
        check_paths(scope, **dataset)

    def test_message_says_expected_found_and_how_to_mend(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        config = tmp_path / 'config.py'
        config.write_text(
            "default_scope = 'mmpretrain'\nload_from = '{{$CHECKPOINT:a.pth}}'\n"
            "train_dataloader = dict(dataset=dict(type='ImageNet', split='train',\n"
            "    data_root='{{$IMAGENET_ROOT:data/imagenet}}'))"
        )
        monkeypatch.delenv('IMAGENET_ROOT', raising=False)
        with pytest.raises(FileNotFoundError) as error:
            preflight.check_data_paths(Config.fromfile(config), ('train_dataloader',))
        assert str(error.value) == (
            f"train_dataloader: ImageNet expects '{tmp_path}/data/imagenet', found only "
            f"'{tmp_path}'. Say where the data is: export IMAGENET_ROOT=/path/to/data or "
            '--cfg-options train_dataloader.dataset.data_root=/path/to/data'
        )

    def test_wrappers_are_looked_through(self):
        wrong = dict(type='CustomDataset', data_root='/nowhere')
        repeated = dict(type='RepeatDataset', times=2, dataset=wrong)
        with pytest.raises(FileNotFoundError, match='/nowhere'):
            check_paths('mmpretrain', type='ConcatDataset', datasets=[repeated])

    @pytest.mark.parametrize(
        'dataset',
        [
            dict(type='CIFAR100', data_root='/nowhere', split='train'),
            dict(type='ImageNet', data_root='s3://a', backend_args=dict(backend='petrel')),
        ],
    )
    def test_datasets_that_fetch_themselves_are_left_alone(self, dataset):
        check_paths('mmpretrain', **dataset)


class TestMethod:
    @pytest.fixture
    def write(self, tmp_path):
        (tmp_path / 'net.py').write_text("model = dict(backbone=dict(type='A'))")
        (tmp_path / 'mix.py').write_text("method = dict(type='M', train_cfg=dict(probs=[1.0]))")
        (tmp_path / 'leaf.py').write_text("_base_ = ['net.py', 'mix.py']\nmodel = _base_.method")

        def write(text):
            (tmp_path / 'child.py').write_text(text)
            return tmp_path / 'child.py'

        return write

    @pytest.mark.parametrize(
        'text',
        [
            "_base_ = ['net.py', 'mix.py']\nmodel = _base_.method",
            "_base_ = 'leaf.py'\nmodel = dict(train_cfg=dict(probs=[0.5]))",
            # A method made from another one, before any model.
            "_base_ = 'mix.py'\nmethod = dict(type='N')",
            "_base_ = 'net.py'\nmethod = dict(type='N')\nmodel = method",
            "_base_ = 'net.py'",
        ],
    )
    def test_what_takes_effect_passes(self, write, text):
        preflight.check_method(Config.fromfile(write(text)))

    @pytest.mark.parametrize(
        'text',
        [
            "_base_ = 'leaf.py'\nmethod = dict(train_cfg=dict(probs=[0.5]))",
            "_base_ = 'leaf.py'\n_base_.method.type = 'N'",
            "_base_ = ['net.py', 'mix.py']\nmethod = dict(type='N')\nmodel = _base_.method",
        ],
    )
    def test_child_that_redefines_it_is_refused(self, write, tmp_path, text):
        child = write(text)
        grandchild = tmp_path / 'grandchild.py'
        grandchild.write_text("_base_ = 'child.py'")
        for path in (child, grandchild):
            with pytest.raises(ValueError, match=r'child\.py redefines `method`'):
                preflight.check_method(Config.fromfile(path))

    def test_options_on_it_are_refused(self, tmp_path, write):
        cfg = Config.fromfile(tmp_path / 'leaf.py')
        cfg.merge_from_dict({'method.train_cfg.probs': [0.5]})
        with pytest.raises(ValueError, match=r'--cfg-options model\.x'):
            preflight.check_method(cfg)
        # A stock tool has the hook only.
        with pytest.raises(ValueError, match=r'--cfg-options model\.x'):
            PreflightHook().before_run(SimpleNamespace(cfg=cfg))

        cfg = Config.fromfile(tmp_path / 'leaf.py')
        cfg.merge_from_dict({'model.train_cfg.probs': [0.5]})
        preflight.check_method(cfg)


class TestCompiledOps:
    @pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', None])
    def test_other_tasks_need_none(self, monkeypatch, scope):
        monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
        preflight.check_compiled_ops(Config(dict(default_scope=scope)))

    def test_detection_without_them_is_refused_in_one_line(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
        with pytest.raises(ImportError, match='make ops') as error:
            preflight.check_compiled_ops(Config(dict(default_scope='mmdet')))
        assert 'python -m mmmixpro.utils.build_ops' in str(error.value)
        assert '\n' not in str(error.value)

    def test_detection_with_them_passes(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'mmcv._ext', SimpleNamespace())
        preflight.check_compiled_ops(Config(dict(default_scope='mmdet')))


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


class Labelled(list):
    def __init__(self, num, **metainfo):
        super().__init__(range(num))
        self.metainfo = metainfo


class TestDataset:
    @pytest.mark.parametrize('path', ['head', 'decode_head', 'roi_head.bbox_head', 'module.head'])
    def test_more_classes_than_the_head_has(self, path):
        model = head = nn.Module()
        for name in path.split('.')[:-1]:
            setattr(head, name, nn.Module())
            head = getattr(head, name)
        setattr(head, path.split('.')[-1], Head(3))

        preflight.check_dataset(Labelled(9, classes=['a', 'b', 'c']), model)
        with pytest.raises(ValueError, match=rf'has 4 classes, but model\.{path} .* room for 3'):
            preflight.check_dataset(Labelled(9, classes=['a', 'b', 'c', 'd']), model)

    def test_region_proposals_have_no_classes(self):
        model = nn.Module()
        model.rpn_head = Head(1)
        preflight.check_dataset(Labelled(9, classes=['a', 'b']), model)

    def test_labels_count_where_classes_have_no_names(self, tmp_path):
        (tmp_path / 'a.txt').write_text('0.jpg 0\n1.jpg 4\n')
        dataset = CustomDataset(data_root=str(tmp_path), ann_file='a.txt')
        model = nn.Module()
        model.head = Head(4)
        with pytest.raises(ValueError, match='has 5 classes'):
            preflight.check_dataset(dataset, model)

    def test_empty(self):
        with pytest.raises(ValueError, match='found no image'):
            preflight.check_dataset(Labelled(0), nn.Module())


class TestBatchSize:
    @pytest.fixture
    def warnings(self):
        def warnings(auto_scale_lr, steps=1):
            lines = []
            runner = SimpleNamespace(
                auto_scale_lr=auto_scale_lr,
                world_size=2,
                train_dataloader=Runner.build_dataloader(
                    dict(dataset=Labelled(9), sampler=dict(type='DefaultSampler'), batch_size=4)
                ),
                optim_wrapper=SimpleNamespace(_accumulative_counts=steps),
                logger=SimpleNamespace(warning=lines.append),
            )
            preflight.warn_batch_size(runner)
            return lines

        return warnings

    def test_differs(self, warnings):
        (line,) = warnings(dict(base_batch_size=32))
        assert 'batches of 32, this run has 8 (4 per rank x 2 ranks x 1 accumulated)' in line
        assert '--auto-scale-lr to scale it by 0.25' in line

    def test_fits(self, warnings):
        assert not warnings(dict(base_batch_size=8))
        assert not warnings(dict(base_batch_size=32), steps=4)
        assert not warnings(dict(base_batch_size=32, enable=True))
        assert not warnings(None)
