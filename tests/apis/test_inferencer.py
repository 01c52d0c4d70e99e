# Copyright (c) MMMixPro contributors.
"""Classifying images, and showing where the classifier looked."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmmixpro.apis import ClassificationInferencer, get_model
from mmmixpro.attention import class_attention

CLASSES = ['ant', 'bee', 'cat']
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=64, edge='short'),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]


@pytest.fixture
def config(backbone_cfg):
    def config(family='vit', type='PALClassifier', **kwargs):
        head = 'VisionTransformerClsHead' if family == 'vit' else 'LinearClsHead'
        return Config(
            dict(
                model=dict(
                    type=type,
                    backbone=backbone_cfg(family, **kwargs),
                    head=dict(type=head, num_classes=3, in_channels=32),
                ),
                data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
                test_dataloader=dict(dataset=dict(type='CustomDataset', pipeline=PIPELINE)),
            )
        )

    return config


@pytest.fixture
def checkpoint(config, redraw, tmp_path):
    def checkpoint(*args):
        model = redraw(get_model(config(*args)))
        torch.save(
            dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))), tmp_path / 'x.pth'
        )
        return str(tmp_path / 'x.pth')

    return checkpoint


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    paths = []
    for i, size in enumerate([(80, 120, 3), (64, 64, 3), (200, 90, 3)]):
        paths.append(str(folder / f'{i}.png'))
        cv2.imwrite(paths[-1], np.random.randint(0, 256, size, dtype=np.uint8))
    return paths


@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_predictions_and_attention_are_the_models(family, config, checkpoint, images):
    path = checkpoint(family)
    inferencer = ClassificationInferencer(config(family), path)
    plain, shown = inferencer(images, batch_size=2), inferencer(images, batch_size=2, draw_attention=True)
    model = get_model(config(family), path)
    for path, one, other in zip(images, plain, shown, strict=True):
        pixels = cv2.imread(path)
        short = min(pixels.shape[:2])
        size = [round(side * 64 / short) for side in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        top, left = ((side - 64) // 2 for side in pixels.shape[:2])
        rgb = pixels[top : top + 64, left : left + 64, ::-1].astype(np.float32)
        mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
        batch = torch.from_numpy((rgb - mean) / std).permute(2, 0, 1)[None]
        with torch.no_grad(), class_attention(model.backbone, (64, 64)) as tap:
            (scores,) = model(batch).softmax(1)
        (seen,) = inferencer(path, draw_attention=True, return_datasamples=True)
        np.testing.assert_array_equal(seen.seen, rgb)
        np.testing.assert_allclose(one['pred_scores'], scores, atol=1e-5)
        np.testing.assert_allclose(other['pred_scores'], scores, atol=1e-5)
        np.testing.assert_allclose(other['class_attention'], tap.map[0], atol=1e-5)
        assert 'class_attention' not in one
        assert one['pred_class'] == CLASSES[int(scores.argmax())]


def test_drawn_over_what_the_model_sees(config, checkpoint, images, tmp_path):
    inferencer = ClassificationInferencer(config(), checkpoint())
    out = tmp_path / 'new' / 'drawn'
    inferencer(images, show_dir=str(out), draw_attention=True)
    assert sorted(path.name for path in out.iterdir()) == ['0.png', '1.png', '2.png']
    # The second is as large as the model wants it: the picture's left half shows it as it is.
    drawn, image = cv2.imread(str(out / '1.png')), cv2.imread(images[1])
    height, width = drawn.shape[:2]
    assert width > 1.9 * 64 and height > 64
    (samples,) = [inferencer(images[1], draw_attention=True, return_datasamples=True)]
    np.testing.assert_array_equal(samples[0].seen, image[..., ::-1])
    # mmpretrain's own drawing stays.
    inferencer(images[0], show_dir=str(tmp_path / 'plain'))
    assert cv2.imread(str(tmp_path / 'plain' / '0.png')).shape == (80, 120, 3)


def test_datasets_in_memory_are_rgb(config, checkpoint, images):
    """CIFAR's images are, and so its configs neither load them nor swap their channels."""
    path = checkpoint()
    cifar = config()
    cifar.test_dataloader.dataset.pipeline = PIPELINE[1:]
    cifar.data_preprocessor.to_rgb = False
    samples = [
        ClassificationInferencer(cfg, path)(images, draw_attention=True, return_datasamples=True)
        for cfg in (config(), cifar)
    ]
    for one, other in zip(*samples, strict=True):
        assert torch.equal(one.pred_score, other.pred_score)
        np.testing.assert_array_equal(one.seen, other.seen)


def test_datasets_in_wrappers(config, checkpoint, images):
    path = checkpoint()
    wrapped = config()
    wrapped.test_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=wrapped.test_dataloader.dataset)
    one, other = (ClassificationInferencer(cfg, path)(images[0])[0] for cfg in (config(), wrapped))
    np.testing.assert_array_equal(one['pred_scores'], other['pred_scores'])
    assert wrapped.test_dataloader.dataset.type == 'RepeatDataset'


def test_a_window(config, checkpoint, images, monkeypatch):
    shown = []
    inferencer = ClassificationInferencer(config(), checkpoint())
    name = 'mmmixpro.apis.classification.UniversalVisualizer.show'
    monkeypatch.setattr(name, lambda self, image, win_name, wait_time: shown.append((image.ndim, win_name, wait_time)))
    inferencer(cv2.imread(images[0]), show=True, wait_time=2, draw_attention=True)
    assert shown == [(3, '0', 2)]


def test_a_classifier_at_hand(config, checkpoint, images):
    model = get_model(config())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ClassificationInferencer(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    inferencer = ClassificationInferencer(model, checkpoint(), classes=['x', 'y', 'z'])
    assert not torch.equal(model.backbone.pos_embed, before['backbone.pos_embed'])
    assert inferencer(images[0])[0]['pred_class'] in 'xyz'


def test_mistakes(config, checkpoint, images, tmp_path):
    with pytest.raises(ValueError, match='No weights are published'):
        ClassificationInferencer('mixpro/deit-t')
    with pytest.raises(ValueError, match='Cannot load'):
        ClassificationInferencer(config('pvt'), checkpoint('vit'))
    with pytest.raises(ValueError, match='Cannot load'):
        ClassificationInferencer(get_model(config('pvt')), checkpoint('vit'))
    inferencer = ClassificationInferencer(config(), checkpoint())
    with pytest.raises(ValueError, match=r"leave \['resize'\] out"):
        inferencer(images[0], draw_attention=True, resize=10)
    without = get_model(config('vit', 'ImageClassifier', out_type='avg_featmap', with_cls_token=False))
    with pytest.raises(ValueError, match='class attention'):
        ClassificationInferencer(without)(images[0], draw_attention=True, show_dir=str(tmp_path / 'no'))
    assert not (tmp_path / 'no').exists()
