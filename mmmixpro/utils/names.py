# Copyright (c) MMMixPro contributors.
"""What the parts of a model are called elsewhere, and here."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from .weights import listed

# Their name and ours: '#' stands for a number, '*' for the rest, in the same order on both sides.
Rules = Sequence[tuple[str, str]]


def _same(theirs: str, ours: str, *parts: str) -> Rules:
    """Parts of a block that have one name."""
    return tuple((f'{theirs}.{part}.*', f'{ours}.{part}.*') for part in parts)


def _ffn(theirs: str, ours: str) -> Rules:
    return ((f'{theirs}.mlp.fc1.*', f'{ours}.ffn.layers.0.0.*'), (f'{theirs}.mlp.fc2.*', f'{ours}.ffn.layers.1.*'))


def _as_is(*names: str) -> Rules:
    return tuple((name, f'backbone.{name}') for name in names)


VIT: Rules = (
    *_as_is('cls_token', 'dist_token', 'pos_embed'),
    ('patch_embed.proj.*', 'backbone.patch_embed.projection.*'),
    ('blocks.#.norm1.*', 'backbone.layers.#.ln1.*'),
    ('blocks.#.norm2.*', 'backbone.layers.#.ln2.*'),
    *_same('blocks.#', 'backbone.layers.#', 'attn.qkv', 'attn.proj'),
    *_ffn('blocks.#', 'backbone.layers.#'),
    ('norm.*', 'backbone.ln1.*'),
    ('head.*', '{head}.*'),
    ('head_dist.*', 'head.layers.head_dist.*'),
)
CAIT: Rules = (
    *_as_is('cls_token', 'pos_embed', 'norm.*'),
    ('patch_embed.proj.*', 'backbone.patch_embed.projection.*'),
    *(
        rule
        for theirs, ours in (('blocks.#', 'backbone.layers.#'), ('blocks_token_only.#', 'backbone.ca_layers.#'))
        for rule in (
            *_same(theirs, ours, *['norm1', 'norm2', 'attn.qkv', 'attn.q', 'attn.k', 'attn.v', 'attn.proj']),
            (f'{theirs}.attn.proj_l.*', f'{ours}.attn.mix_logits.*'),
            (f'{theirs}.attn.proj_w.*', f'{ours}.attn.mix_weights.*'),
            (f'{theirs}.gamma_1', f'{ours}.gamma1.weight'),
            (f'{theirs}.gamma_2', f'{ours}.ffn.gamma2.weight'),
            *_ffn(theirs, ours),
        )
    ),
    ('head.*', '{head}.*'),
)
XCIT: Rules = (
    *_as_is('cls_token', 'norm.*'),
    # An activation stands between any two of theirs.
    *(
        (f'patch_embed.proj.{2 * i}.{j}.*', f'backbone.patch_embed.proj.{i}.{kind}.*')
        for i in range(4)
        for j, kind in enumerate(('conv', 'bn'))
    ),
    ('pos_embed.token_projection.*', 'backbone.pos_embed.token_projection.conv.*'),
    *(
        rule
        for theirs, ours in (('blocks.#', 'backbone.xca_layers.#'), ('cls_attn_blocks.#', 'backbone.ca_layers.#'))
        for rule in (
            *_same(theirs, ours, *['norm1', 'norm2', 'norm3', 'attn.qkv', 'attn.q', 'attn.k', 'attn.v', 'attn.proj']),
            *((f'{theirs}.{name}', f'{ours}.{name}') for name in ['gamma1', 'gamma2', 'gamma3', 'attn.temperature']),
            (f'{theirs}.local_mp.bn.*', f'{ours}.local_mp.conv1.bn.*'),
            *((f'{theirs}.local_mp.conv{i}.*', f'{ours}.local_mp.conv{i}.conv.*') for i in (1, 2)),
            *_ffn(theirs, ours),
        )
    ),
    ('head.*', '{head}.*'),
)
SWIN: Rules = (
    ('absolute_pos_embed', 'backbone.absolute_pos_embed'),
    ('patch_embed.proj.*', 'backbone.patch_embed.projection.*'),
    ('patch_embed.norm.*', 'backbone.patch_embed.norm.*'),
    *_same('layers.#.blocks.#', 'backbone.stages.#.blocks.#', 'norm1', 'norm2'),
    *(
        (f'layers.#.blocks.#.attn.{name}', f'backbone.stages.#.blocks.#.attn.w_msa.{name}')
        for name in ('qkv.*', 'proj.*', 'relative_position_bias_table')
    ),
    *_ffn('layers.#.blocks.#', 'backbone.stages.#.blocks.#'),
    ('layers.#.downsample.*', 'backbone.stages.#.downsample.*'),
    ('norm.*', 'backbone.norm3.*'),
    ('head.fc.*', '{head}.*'),
    ('head.*', '{head}.*'),
)
PVT: Rules = (
    *_as_is('cls_token', 'norm.*'),
    *(
        rule
        for i in range(4)
        for rule in (
            (f'pos_embed{i + 1}', f'backbone.stages.{i}.pos_embed'),
            (f'patch_embed{i + 1}.proj.*', f'backbone.stages.{i}.patch_embed.projection.*'),
            (f'patch_embed{i + 1}.norm.*', f'backbone.stages.{i}.patch_embed.norm.*'),
            *_same(
                f'block{i + 1}.#',
                f'backbone.stages.{i}.blocks.#',
                *['norm1', 'norm2', 'attn.q', 'attn.kv', 'attn.proj', 'attn.sr', 'attn.norm'],
            ),
            *_ffn(f'block{i + 1}.#', f'backbone.stages.{i}.blocks.#'),
        )
    ),
    ('head.*', '{head}.*'),
)
# From the official PVT, as changed in `pvt_to_mmdet`. The first of the blocks there are the position embeddings.
MMDET: Rules = tuple(
    rule
    for i in range(4)
    for rule in (
        (f'pos_embed{i + 1}', f'layers.{i}.1.0.pos_embed'),
        (f'patch_embed{i + 1}.proj.*', f'layers.{i}.0.projection.*'),
        (f'patch_embed{i + 1}.norm.*', f'layers.{i}.0.norm.*'),
        *_same(f'block{i + 1}.#', f'layers.{i}.1.#', 'norm1', 'norm2', 'attn.sr', 'attn.norm'),
        (f'block{i + 1}.#.attn.qkv.weight', f'layers.{i}.1.#.attn.attn.in_proj_weight'),
        (f'block{i + 1}.#.attn.qkv.bias', f'layers.{i}.1.#.attn.attn.in_proj_bias'),
        (f'block{i + 1}.#.attn.proj.*', f'layers.{i}.1.#.attn.attn.out_proj.*'),
        (f'block{i + 1}.#.mlp.fc1.*', f'layers.{i}.1.#.ffn.layers.0.*'),
        (f'block{i + 1}.#.mlp.fc2.*', f'layers.{i}.1.#.ffn.layers.3.*'),
    )
)


def with_head(rules: Rules, head: str) -> Rules:
    """The rules for a classifier whose linear layer is called ``head``."""
    return tuple((theirs, ours.replace('{head}', head)) for theirs, ours in rules)


def reverse(rules: Rules) -> Rules:
    """From ours to theirs."""
    return tuple((ours, theirs) for theirs, ours in rules)


def rename(weights: Mapping[str, Tensor], rules: Rules, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """The weights under their new names, but for those whose old or new name matches a pattern in ``ignore``.

    Raises:
        ValueError: If a name is known to no rule, or if two names become one.
    """
    patterns = [(re.compile(re.escape(old).replace('\\#', r'(\d+)').replace('\\*', '(.+)')), new) for old, new in rules]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in weights.items():
        new = _new_name(name, patterns)
        if any(fnmatchcase(either, pattern) for either in (name, new) if either for pattern in ignore):
            continue
        if new is None:
            unknown.append(name)
        elif new in renamed:
            raise ValueError(f'{name} is a second weight that becomes {new}. Give a checkpoint that has it once.')
        else:
            renamed[new] = value
    if unknown or not renamed:
        raise ValueError(
            f'{len(renamed)} of {len(weights)} weights are of the model that is expected; unknown: {listed(unknown)}. '
            f'Expected names such as {listed(old for old, _ in rules[:3])}. Give the checkpoint of that model, or say '
            'which of its weights may stay behind.'
        )
    return renamed


def _new_name(name: str, patterns: Sequence[tuple[re.Pattern, str]]) -> str | None:
    for pattern, new in patterns:
        if found := pattern.fullmatch(name):
            for group in found.groups():
                new = re.sub('[#*]', group, new, count=1)
            return new
    return None
