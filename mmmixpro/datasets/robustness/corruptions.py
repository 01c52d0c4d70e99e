# Copyright (c) MMMixPro contributors.
"""Names and severities of the corruptions of ImageNet-C, and how they are written about."""

from collections.abc import Mapping, Sequence

# https://arxiv.org/abs/1903.12261, in the order of its table 1; the mean corruption error is over these.
BENCHMARK = (
    'gaussian_noise',
    'shot_noise',
    'impulse_noise',
    'defocus_blur',
    'glass_blur',
    'motion_blur',
    'zoom_blur',
    'snow',
    'frost',
    'fog',
    'brightness',
    'contrast',
    'elastic_transform',
    'pixelate',
    'jpeg_compression',
)
# Its appendix B's, meant for tuning, which the benchmark leaves out.
EXTRA = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
SEVERITIES = (1, 2, 3, 4, 5)

Kind = tuple[str, int]  # a corruption and its severity


def kinds(corruptions: Sequence[str], severities: Sequence[int]) -> list[Kind]:
    """Each corruption at each severity.

    Raises:
        ValueError: For an unknown name or severity, one given twice, or none.
    """
    for what, given, known in (
        ('corruptions', corruptions, BENCHMARK + EXTRA),
        ('severities', severities, SEVERITIES),
    ):
        # A string is a sequence of letters.
        if isinstance(given, str) or not given or not set(given) <= set(known) or len(set(given)) < len(given):
            raise ValueError(f'Expected {what} to be some of {known}, each once; got {given!r}.')
    return [(corruption, severity) for corruption in corruptions for severity in severities]


def list_missing(missing: Mapping[Kind, str], severities: Sequence[int]) -> str:
    """What is missing, whole corruptions as such: ``fog, snow/5 (3 of 1000 classes, such as n01440764)``.

    Args:
        missing: Of each corruption and severity that is not whole, what it lacks; ``''`` if it lacks everything.
        severities: All that are asked for.
    """
    words = []
    for corruption in dict.fromkeys(name for name, _ in missing):
        lacks = {
            severity: missing[corruption, severity] for severity in severities if (corruption, severity) in missing
        }
        if len(lacks) == len(severities) and not any(lacks.values()):
            words.append(corruption)
        else:
            words += [f'{corruption}/{severity}' + (f' ({lack})' if lack else '') for severity, lack in lacks.items()]
    return ', '.join(words)
