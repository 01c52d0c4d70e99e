# Copyright (c) MMMixPro contributors.
import pytest
import torch

from mmmixpro.engine.loops.attacks import FGSM, PGD, pixel_gradients

COMPACT = [dict(type='CompactAccuracy')]
STRONG = [dict(type='FGSM', eps=8.0), dict(type='PGD', eps=8.0, step=2.0, steps=4, seed=2)]


def loop(**kwargs):
    return dict(dict(type='AdversarialTestLoop', attacks=STRONG), **kwargs)


def logits(model, pixels):
    with torch.no_grad():
        return model(model.data_preprocessor(dict(inputs=pixels))['inputs'])


@pytest.fixture
def right(pictures):
    """Pictures that a model is right about."""

    def right(model, num=12):
        data = pictures(num)
        data.labels = logits(model, torch.stack([data[i]['inputs'] for i in range(num)])).argmax(1).tolist()
        return data

    return right


@pytest.mark.parametrize('kind', ['ImageClassifier', 'PALClassifier'])
def test_accuracy_falls_to_what_the_attacks_leave(make_runner, classifier, right, kind):
    model = classifier(kind)
    data = right(model)
    runner = make_runner(model, data, loop(), COMPACT)
    results = runner.test()
    assert list(results) == ['adversarial/clean', 'adversarial/fgsm', 'adversarial/pgd']
    assert results['adversarial/clean'] == make_runner(model, data).test()['accuracy/top1'] == 100
    images, labels = torch.stack([data[i]['inputs'] for i in range(12)]).float(), torch.tensor(data.labels)
    for attack in (FGSM(eps=8.0), PGD(eps=8.0, step=2.0, steps=4, seed=2)):
        attacked = attack(images, pixel_gradients(model, labels), range(12))
        accuracy = (logits(model, attacked).argmax(1) == labels).float().mean().item()
        assert results[f'adversarial/{attack.name}'] == pytest.approx(100 * accuracy)
    assert results['adversarial/pgd'] <= results['adversarial/fgsm'] < 100
    assert results['adversarial/pgd'] < 50
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert runner.test_loop.describe() == (
        'fgsm: eps 8/255; pgd: eps 8/255, 4 steps of 2/255, random start by seed 2 '
        '(L-infinity, white box, cross entropy)'
    )
    assert runner.message_hub.get_info('AdversarialTestLoop') == runner.test_loop.describe()


def test_order_batches_and_precision_of_prediction(make_runner, classifier, right):
    """Attacks are the same whatever the precision of predictions; what these are, bfloat16 may change a bit."""
    model = classifier()
    data, seen = right(model), []
    forward = model.data_preprocessor.forward

    def record(data, training=False):
        if not data['inputs'].requires_grad:
            seen.append(data['inputs'].clone())
        return forward(data, training)

    model.data_preprocessor.forward = record
    first = make_runner(model, data, loop(), COMPACT, dict(batch_size=12)).test()
    fgsm, pgd, clean = seen
    assert clean.dtype == torch.uint8
    for attacked in (fgsm, pgd):
        assert attacked.dtype == torch.float32
        assert 7.9 < (attacked - clean.float()).abs().max() <= 8 + 1e-4
    loader = dict(batch_size=5, sampler=dict(type='DefaultSampler', shuffle=True))
    assert make_runner(model, data, loop(), COMPACT, loader).test() == first
    assert make_runner(model, data, loop(), COMPACT, dict(collate_fn=dict(type='pseudo_collate'))).test() == first
    seen.clear()
    make_runner(model, data, loop(fp16=True), COMPACT, dict(batch_size=12)).test()
    assert torch.equal(torch.stack(seen[:2]), torch.stack([fgsm, pgd]))


def test_mistakes(make_runner, pictures, classifier):
    model = classifier()
    for attacks in ([], [dict(type='PGD'), dict(type='PGD', eps=2.0)], [dict(type='FGSM', name='clean')]):
        with pytest.raises(ValueError, match='each with a name of its own'):
            make_runner(model, pictures(4), loop(attacks=attacks), COMPACT).test()
    several = pictures(4)
    several.labels[2] = [0, 3]
    with pytest.raises(ValueError, match='one label for each image'):
        make_runner(model, several, loop(), COMPACT).test()
    foreign = pictures(4)
    foreign.labels[2] = 7
    with pytest.raises(ValueError, match='labels of the 7 classes of the model, found . to 7'):
        make_runner(model, foreign, loop(), COMPACT).test()
    with pytest.raises(ValueError, match='without --tta'):
        make_runner(dict(type='AverageClsScoreTTA', module=model), pictures(4), loop(), COMPACT).test()
