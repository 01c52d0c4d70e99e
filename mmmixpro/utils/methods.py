# Copyright (c) MMMixPro contributors.
from pathlib import Path

LEAF = '{model}_8xb128_in1k.py'


def find_configs(configs: Path, model: str) -> dict[str, Path]:
    """Configs of one model by every method that has one, by the name of the method's folder.

    Args:
        configs: The folder ``configs``.
        model: Stem of the model's configs before the batch size, ``'deit-t'`` for example.
    """
    return {path.parent.name: path for path in sorted(configs.glob(f'*/{LEAF.format(model=model)}'))}


def find_ablation(configs: Path, ablation: str, model: str) -> dict[str, Path]:
    """Configs of one model in one table or figure of ``configs/ablation``, by what they vary.

    Args:
        configs: The folder ``configs``.
        ablation: ``'table7'`` for example.
        model: As for :func:`find_configs`.
    """
    head, tail = f'{ablation}_', f'_{LEAF.format(model=model)}'
    found = sorted(configs.glob(f'ablation/{head}*{tail}'))
    return {path.name.removeprefix(head).removesuffix(tail): path for path in found}
