# Copyright (c) MMMixPro contributors.
"""What cannot be exported: an error, and no file."""

import os
import re

import pytest

from mmmixpro.utils.export import export


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


def test_refused_and_nothing_is_written(config, weights, meta, save, tmp_path):
    target = tmp_path / 'out' / 'x.pth'
    target.parent.mkdir()
    target.write_bytes(b'old')
    safe = str(target.with_suffix('.safetensors'))

    def refuse(content, match, cfg=None, part='classifier', truncate=None):
        source = save(content)
        if truncate:
            os.truncate(source, int(os.path.getsize(source) * truncate))
        with pytest.raises(ValueError, match=match) as error:
            export(cfg or config(), source, [str(target), safe], part)
        assert source in str(error.value)
        assert len(str(error.value)) < 2000
        assert target.read_bytes() == b'old'
        assert os.listdir(target.parent) == ['x.pth']
        return str(error.value)

    def without(*prefixes):
        return {key: value for key, value in weights.items() if not key.startswith(prefixes)}

    def renamed(old, new):
        return {re.sub(f'^{old}', new, key): value for key, value in weights.items()}

    mend = 'Give the config that the checkpoint was trained by'
    # A wrong prefix, another architecture, a head alone.
    found = refuse(dict(state_dict=renamed('', 'model.')), r'unexpected .*: model\.backbone\.cls_token')
    assert mend in found and 'missing in the checkpoint' in found and 'to_mmmixpro.py' in found
    assert mend in refuse(
        dict(state_dict=weights), r'of another shape .*: backbone\.', config('deeper', arch='deit-tiny')
    )
    assert mend in refuse(dict(state_dict=without('backbone.')), r'missing .*: backbone\.cls_token')
    assert mend in refuse(dict(state_dict=without('backbone.')), r'missing .*: backbone\.cls_token', part='backbone')
    assert mend in refuse(dict(state_dict=without('head.')), r'missing .* \(2\): head\.layers\.head\.bias')
    # Code, half a file, no weights.
    refuse(dict(state_dict=weights, meta=Payload()), 'carries code: it asks for .*exec.*save the weights alone')
    for share in (0.1, 0.5, 0.99):
        refuse(dict(state_dict=weights), 'is no checkpoint', truncate=share)
    refuse(dict(meta=meta), "holds no weights: expected a dict of tensors.*'state_dict'")


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda key, value: {}, r'missing in the checkpoint \(1\): {key}\n'),
        (
            lambda key, value: {f'{key}_': value},
            r'missing .* \(1\): {key}\n  unexpected in the checkpoint \(1\): {key}_\n',
        ),
        (lambda key, value: {key: value[..., :-1]}, r'of (another shape|a shape they cannot use) \(1\): {key} '),
    ],
    ids=['dropped', 'renamed', 'reshaped'],
)
def test_one_tensor(config, weights, save, tmp_path, change, match):
    cfg = config()
    target = tmp_path / 'out' / 'x.safetensors'
    for key in [key for key in weights if key.startswith(('head.', 'backbone.')) and '.layers.1' not in key]:
        changed = {k: v for k, v in weights.items() if k != key} | change(key, weights[key])
        with pytest.raises(ValueError, match=match.replace('{key}', re.escape(key))):
            export(cfg, save(dict(state_dict=changed)), [str(target)], 'classifier')
    assert not target.parent.exists()


def test_targets_and_configs_that_cannot_be(config, weights, save, tmp_path):
    source = save(dict(state_dict=weights))
    for target in (tmp_path, 'x.bin', 'x', 's3://bucket/x.pth', f'{source}/x.pth'):
        with pytest.raises(ValueError, match=r"name of a file to write|end in one of \['\.pth', '\.safetensors'\]"):
            export(config(), source, [str(tmp_path / 'fine.pth'), str(target)])
    with pytest.raises(ValueError, match=r"part must be one of \['backbone', 'classifier'\], got 'head'"):
        export(config(), source, [str(tmp_path / 'fine.pth')], 'head')
    with pytest.raises(ValueError, match='would replace what it is made of'):
        export(config(), source, [source])
    with pytest.raises(FileNotFoundError, match='Expected a config'):
        export('nowhere.py', source, [str(tmp_path / 'fine.pth')])
    with pytest.raises(FileNotFoundError, match='Give what training has saved'):
        export(config(), 'nowhere.pth', [str(tmp_path / 'fine.pth')])
    segmentor = tmp_path / 'segmentor.py'
    segmentor.write_text("model = dict(type='EncoderDecoder', backbone=dict(), decode_head=dict())")
    with pytest.raises(ValueError, match=r"with head, found \['backbone', 'decode_head', 'type'\]"):
        export(str(segmentor), source, [str(tmp_path / 'fine.pth')], 'classifier')
    assert not (tmp_path / 'fine.pth').exists()


def test_killed_while_writing(config, weights, save, tmp_path, monkeypatch):
    source = save(dict(state_dict=weights))
    target = tmp_path / 'out' / 'x.pth'
    export(config(), source, [str(target)])
    old = target.read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        export(config(), source, [str(target)], 'classifier')
    assert target.read_bytes() == old
