# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest

COMPACT = [dict(type='CompactAccuracy')]


def loop(**kwargs):
    return dict(dict(type='OcclusionTestLoop', ratios=[0.0, 0.5], grid=5), **kwargs)


MISTAKES = {
    "must be some of ['random', 'salient', 'non-salient']": dict(kinds=['random', 'important']),
    'each once': dict(kinds=['random', 'random']),
    "kinds=[] must be some of ['random'": dict(kinds=[]),
    'ratios=[0.1, 0.1] must be': dict(ratios=[0.1, 0.1]),
    'got 30. 0.3 hides 30 %': dict(ratios=[30]),
    'Expected a grid': dict(grid=0),
    'seed=-1': dict(seed=-1),
    'set saliency': dict(saliency=None),
    'DumpResults writes one file': dict(evaluator=[*COMPACT, dict(type='DumpResults', out_file_path='a.pkl')]),
}


@pytest.mark.parametrize(('message', 'wrong'), MISTAKES.items())
def test_mistakes_show_before_the_first_batch(make_runner, pictures, classifier, message, wrong):
    cfg = loop(**wrong)
    runner = make_runner(classifier(), pictures(4), cfg, cfg.pop('evaluator', COMPACT))
    with pytest.raises(ValueError) as error:
        runner.test()
    assert message in str(error.value)
    # The loader is built by the loop, and is nothing but its config before.
    assert isinstance(runner._test_dataloader, dict) or not runner._test_dataloader.dataset.read


def test_data_that_do_not_fit(make_runner, pictures, classifier):
    random = loop(kinds=['random'])
    nameless = pictures(4)
    nameless.__class__ = type('Nameless', (pictures,), dict(__getitem__=lambda self, i: strip(pictures, self, i)))
    with pytest.raises(ValueError, match='sample_idx'):
        make_runner(classifier(), nameless, random, COMPACT).test()
    normalised = pictures(4, change=lambda results: dict(results, img=results['img'] / np.float32(255)))
    with pytest.raises(ValueError, match='uint8 images, .* got torch.float32'):
        make_runner(classifier(), normalised, random, COMPACT).test()
    ragged = pictures(4, change=lambda results: dict(results, img=results['img'][results['sample_idx'] :]))
    with pytest.raises(ValueError, match='of one size, found'):
        pseudo = dict(collate_fn=dict(type='pseudo_collate'))
        make_runner(classifier(), ragged, random, COMPACT, pseudo).test()
    tta = dict(type='AverageClsScoreTTA', module=classifier())
    with pytest.raises(ValueError, match='without --tta'):
        make_runner(tta, pictures(4), random, COMPACT).test()


def strip(pictures, self, index):
    item = pictures.__getitem__(self, index)
    item['data_samples'].pop('sample_idx')
    return item
