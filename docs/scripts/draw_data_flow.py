# Copyright (c) MMMixPro contributors.
"""Draw docs/images/data_flow.svg: one image from its pixels to its loss, every panel a tensor of a real step.

    python -m mmmixpro.datasets.shapes --out data/shapes
    python tools/train.py configs/demo/deit_shapes.py                # two minutes on two cores; or take make demo's
    python docs/scripts/draw_data_flow.py configs/demo/deit_shapes.py work_dirs/demo/deit_shapes/epoch_13.pth

The seed chooses the images and what is mixed of them; the picture is of the first image of the batch.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.apis.batch import load_batch, parse_batch_arguments
from mmmixpro.attention import class_attention
from mmmixpro.visualization.figure import STYLE, write_figure
from mmmixpro.visualization.mixed import borders, mask_of, random_state, show_attention, to_rgb
from mmmixpro.visualization.sheet import MASK

PICTURE = Path(__file__).resolve().parents[1] / 'images/data_flow.svg'
WIDTH, HEIGHT = 4.4, 10.6  # inches; narrow, so that its text is legible on a phone
OWN, OTHER, GREY = '#1f5fbf', '#d99a1c', '#9aa5b1'


@torch.no_grad()
def step(model, images, labels) -> dict:
    """What docs/data_flow.md shows, in the same order."""
    scores = F.one_hot(labels, model.head.num_classes).float()
    plan = model.mixers[0].plan(images, model, scores)
    mixed = plan.mix_images(images)
    with class_attention(model.backbone, plan.size) as tap:
        feats = model.extract_feat(mixed)
    logits = model.head(feats).float()
    weights = model.labels(plan, tap.map, logits, scores)
    target = plan.mix_scores(scores, *weights)
    losses = [model.head.loss_module(z[None], y[None]).item() for z, y in zip(logits, target, strict=True)]
    return dict(plan=plan, mixed=mixed, attention=tap.map, logits=logits, weights=weights, target=target, losses=losses)


def draw(model, images, seen: dict, names: list[str], labels) -> Figure:
    plan, weights, size = seen['plan'], seen['weights'], seen['plan'].size
    j = int(plan.partner[0])
    shown = to_rgb(torch.stack([images[0], images[j], seen['mixed'][0]]), model.data_preprocessor)
    mask, attention = mask_of(plan, 0), seen['attention'][0].numpy()
    figure = Figure(figsize=(WIDTH, HEIGHT), layout='constrained', facecolor='white')
    # Apart, for the names of the classes would take their width from the images.
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.65, 1])
    pictures, axes = upper.subplots(3, 2), lower.subplots(2, 2, height_ratios=[1.3, 1])
    for ax in [*pictures.flat, axes[1, 1]]:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)

    picture(pictures[0, 0], shown[0], f'1  image i: {names[labels[0]]}')
    picture(pictures[0, 1], shown[1], f'1  partner j: {names[labels[j]]}')
    pictures[1, 0].imshow(mask, vmin=0, vmax=1, cmap=MASK, interpolation='nearest')
    pictures[1, 0].set_title(f'2  mask, cells of {plan.cell} px')
    picture(pictures[1, 1], shown[2], '3  mixed image')
    pictures[2, 0].imshow(attention, cmap='inferno', vmin=0)
    pictures[2, 0].set_title(f'4  class attention, {attention.shape[0]} x {attention.shape[1]}')
    picture(pictures[2, 1], shown[2], '4  the same, laid over 3')
    show_attention(pictures[2, 1], attention, size)
    for ax in pictures[1:, 1]:
        ax.add_collection(borders(mask, plan.cell, size))

    for ax, values, title in (
        (axes[0, 0], seen['logits'].softmax(1)[0], '5  softmax(logits)'),
        (axes[0, 1], seen['target'][0], '6  mixed label'),
    ):
        colours = [OWN if k == labels[0] else OTHER if k == labels[j] else GREY for k in range(len(names))]
        bars(ax, dict(zip(names, values.tolist(), strict=True)), colours)
        ax.set_title(title)
    axes[0, 1].set_yticks([])
    shares = {'λ area': plan.lam, 'λ attn': weights.lam_attn, 'α': weights.alpha, 'λ': weights[0]}
    drawn = bars(axes[1, 0], {name: float(values[0]) for name, values in shares.items()}, [OWN, OWN, GREY, OWN])
    axes[1, 0].bar_label(drawn, fmt='%.2f', padding=2)
    axes[1, 0].set(title='5  how much i counts', xlim=(0, 1.25))
    axes[1, 1].set_title('6  loss')
    label = f'{weights[0][0]:.2f} {names[labels[0]]} + {weights[1][0]:.2f} {names[labels[j]]}'
    axes[1, 1].text(0, 0.6, f'{label}\n\ncross entropy: {seen["losses"][0]:.2f}', va='center')
    return figure


def picture(ax: Axes, image: np.ndarray, title: str) -> None:
    ax.imshow(image, interpolation='nearest')
    ax.set_title(title)


def bars(ax: Axes, values: dict[str, float], colours: list[str]) -> BarContainer:
    drawn = ax.barh(list(values), list(values.values()), color=colours)
    ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    ax.invert_yaxis()
    ax.spines[['top', 'right']].set_visible(False)
    return drawn


def main() -> None:
    args = parse_batch_arguments(__doc__, 8, str(PICTURE))
    model, images, labels, names, _ = load_batch(args, 'val_dataloader')
    with random_state(args.seed):
        seen = step(model.eval(), images, labels)
    with mpl.rc_context(STYLE | {'axes.titlesize': 9, 'axes.titlelocation': 'left', 'svg.hashsalt': 'data_flow'}):
        figure = draw(model, images, seen, names, labels.tolist())
        write_figure(figure, args.out)
    print(args.out)


if __name__ == '__main__':
    main()
