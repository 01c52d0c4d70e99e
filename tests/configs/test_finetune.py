# Copyright (c) MMMixPro contributors.
"""Fine-tuning classifiers, as the configs do it, on data in the layouts of their publishers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_files import write_cifar100
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.datasets import CIFAR100
from mmpretrain.datasets.categories import FGVCAIRCRAFT_CATEGORIES
from PIL import Image
from scipy.io import savemat

import mmmixpro  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'
METHODS = dict(baseline='ImageClassifier', cutmix='ImageClassifier', mixpro='PALClassifier')
MODELS = ('deit-s', 'pvt-s')
CLASSES = dict(cifar100=100, cub=200, cars=196, aircraft=100)
FINETUNED = [
    (method, model, data, f'finetune/{method}_{model}_8xb96_{data}.py')
    for method in METHODS
    for model in MODELS
    for data in CLASSES
]
SCRATCH = [
    (method, model, 'cifar100', f'finetune/{method}_{model}_1xb100_cifar100_scratch.py')
    for method in METHODS
    for model in MODELS
]
LEAVES = FINETUNED + SCRATCH
NAMES = [name for *_, name in LEAVES]
# Of each image its label from zero, and whether it is there to train; the last class of all datasets is seen.
LABELS = [3, 99, 0, 7, 50, 21]
TRAIN = [True, True, False, True, True, True]


def colour(label):
    """Red, green and blue of the images of a label."""
    return np.array([2 * label, 100 - label, 200 - label], np.uint8)


def image(label):
    return np.full((40, 48, 3), colour(label), np.uint8)


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    for split, train in dict(train=True, test=False).items():
        labels = [label for label, is_train in zip(LABELS, TRAIN, strict=True) if is_train == train]
        hashes = write_cifar100(tmp_path / 'cifar100', split, labels, colour)
        monkeypatch.setattr(CIFAR100, f'{split}_list', hashes)
    monkeypatch.setenv('CIFAR100_ROOT', str(tmp_path / 'cifar100'))


@pytest.fixture
def cub(tmp_path, monkeypatch):
    """Lists numbered from one, a folder for each bird."""
    root = tmp_path / 'CUB_200_2011'
    names = [f'{label + 1:03}.Bird/Bird_{i:04}.jpg' for i, label in enumerate(LABELS)]
    columns = dict(
        images=names,
        image_class_labels=[label + 1 for label in LABELS],
        train_test_split=[int(train) for train in TRAIN],
    )
    for name, label in zip(names, LABELS, strict=True):
        (root / 'images' / name).parent.mkdir(parents=True)
        Image.fromarray(image(label)).save(root / 'images' / name)
    for stem, values in columns.items():
        (root / f'{stem}.txt').write_text(''.join(f'{i + 1} {value}\n' for i, value in enumerate(values)))
    monkeypatch.setenv('CUB_ROOT', str(root))


@pytest.fixture
def cars(tmp_path, monkeypatch):
    """One MATLAB file with a struct for each image, numbered from one."""
    root = tmp_path / 'Stanford_Cars'
    (root / 'car_ims').mkdir(parents=True)
    fields = ['relative_im_path', 'bbox_x1', 'bbox_y1', 'bbox_x2', 'bbox_y2', 'class', 'test']
    annotations = np.zeros((1, len(LABELS)), dtype=[(field, object) for field in fields])
    for i, (label, train) in enumerate(zip(LABELS, TRAIN, strict=True)):
        name = f'car_ims/{i + 1:06}.jpg'
        Image.fromarray(image(label)).save(root / name)
        annotations[0, i] = (name, *np.uint16([1, 1, 9, 9]), np.uint8(label + 1), np.uint8(not train))
    names = np.array([[f'Car {i}' for i in range(196)]], dtype=object)
    savemat(root / 'cars_annos.mat', dict(annotations=annotations, class_names=names), do_compression=True)
    monkeypatch.setenv('STANFORD_CARS_ROOT', str(root))


@pytest.fixture
def aircraft(tmp_path, monkeypatch):
    """Lists of image and variant, the latter by name."""
    root = tmp_path / 'fgvc-aircraft-2013b'
    (root / 'data/images').mkdir(parents=True)
    lines: dict = dict(trainval=[], test=[])
    for i, (label, train) in enumerate(zip(LABELS, TRAIN, strict=True)):
        Image.fromarray(image(label)).save(root / f'data/images/{i:07}.jpg')
        lines['trainval' if train else 'test'].append(f'{i:07} {FGVCAIRCRAFT_CATEGORIES[label]}')
    for split, text in lines.items():
        (root / f'data/images_variant_{split}.txt').write_text('\n'.join(text))
    monkeypatch.setenv('FGVC_AIRCRAFT_ROOT', str(root))


@pytest.fixture
def data(cifar100, cub, cars, aircraft):
    """All of them."""


def test_all_leaves_are_here():
    assert sorted(NAMES) == sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('finetune/*.py'))


@pytest.mark.parametrize(('method', 'model', 'data_name', 'name'), FINETUNED, ids=NAMES[: len(FINETUNED)])
def test_finetuning_is_as_deits(method, model, data_name, name):
    """SGD at 0.01 for batches of 768, 1000 epochs, neither random erasing nor drop path."""
    cfg = Config.fromfile(CONFIGS / name)
    assert (cfg.model.type, cfg.model.backbone.drop_path_rate) == (METHODS[method], 0.0)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.01, 0.9, 1e-4)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 768
    assert cfg.train_cfg.max_epochs == 1000
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert 'RandAugment' in steps and 'RandomErasing' not in steps
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == CLASSES[data_name]


@pytest.mark.parametrize(('method', 'model', 'data_name', 'name'), SCRATCH, ids=NAMES[len(FINETUNED) :])
def test_from_scratch_is_as_openmixups(method, model, data_name, name):
    """AdamW at 1e-3 for batches of 100, 200 epochs, and no checkpoint."""
    cfg = Config.fromfile(CONFIGS / name)
    assert (cfg.model.type, cfg.model.backbone.drop_path_rate) == (METHODS[method], 0.1)
    assert 'init_cfg' not in cfg.model.backbone
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 100
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[0].end) == (200, 20)
    crop = cfg.train_dataloader.dataset.pipeline[0]
    assert (crop.type, crop.scale, crop.crop_ratio_range) == ('RandomResizedCrop', 224, (0.8, 1.0))
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 100


@pytest.mark.parametrize('data_name', CLASSES)
def test_images_and_labels(data_name, data):
    """What is trained and tested on, in the colours and at the labels that were written."""
    cfg = Config.fromfile(CONFIGS / f'finetune/mixpro_deit-s_8xb96_{data_name}.py')
    for split, train in dict(train_dataloader=True, val_dataloader=False, test_dataloader=False).items():
        settings = cfg[split].dataset
        settings.update(pipeline=cfg.test_pipeline, serialize_data=False)  # which collects garbage, and takes long
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            dataset = DATASETS.build(settings)
        samples = [dataset[i] for i in range(len(dataset))]
        labels = [sample['data_samples'].gt_label.item() for sample in samples]
        assert labels == [label for label, is_train in zip(LABELS, TRAIN, strict=True) if is_train == train]
        for sample, label in zip(samples, labels, strict=True):
            assert sample['inputs'].shape == (3, 224, 224)
            # Read by OpenCV in BGR, or unpickled in RGB.
            rgb = sample['inputs'].flip(0) if cfg.data_preprocessor.to_rgb else sample['inputs']
            assert abs(rgb.numpy() - colour(label).astype(float)[:, None, None]).max() <= 4  # of JPEG
        assert len(dataset.CLASSES) == CLASSES[data_name]


def train(cfg, run):
    """Two epochs, of one iteration each, at the first rate of a schedule as short; then the one image."""
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    warm_up, decay = cfg.param_scheduler
    warm_up.end = decay.begin = 1
    runner = run(cfg)
    assert (runner.iter, len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (2, 5, 1)
    assert (Path(runner.work_dir) / 'epoch_2.pth').is_file()
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() in (0, 100)
    assert np.isfinite(runner.message_hub.get_scalar('train/loss').data[0]).all()
    return runner


@pytest.mark.parametrize(('method', 'model', 'data_name', 'name'), FINETUNED, ids=NAMES[: len(FINETUNED)])
def test_two_iterations_and_an_image(
    method, model, data_name, name, load_config, deit, pvt, data, run, backbone_weights
):
    checkpoint = deit if model == 'deit-s' else pvt
    runner = train(load_config(name, checkpoint), run)
    stored, state = backbone_weights(checkpoint), runner.model.backbone.state_dict()
    # Two steps at this rate leave the backbone where the checkpoint put it, far from where it is drawn.
    assert stored.keys() == state.keys()
    assert all(torch.allclose(state[key], stored[key], atol=1e-2) for key in state)


@pytest.mark.parametrize(('method', 'model', 'data_name', 'name'), SCRATCH, ids=NAMES[len(FINETUNED) :])
def test_two_iterations_from_scratch(method, model, data_name, name, load_config, data, run):
    train(load_config(name), run)
