# Copyright (c) MMMixPro contributors.
"""``dict(type='Pretrained', strict=True)``: a checkpoint fits the module, or is refused."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from .weights import listed, load_weights

Shape = tuple[int, ...] | None  # None: not a tensor


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class StrictPretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained``, which only warns, with a ``strict`` mode, which raises.

    It takes over that name because ``BaseModule.init_weights`` knows no other initialiser that has
    to come last: what others load, the module's own initialisation draws anew.

    With ``strict=True`` each tensor of the module must be in the checkpoint, by name and by shape,
    and each key below ``prefix`` must be of use. The one thing that may differ is the number of
    positions of an embedding, and of their indices, where the module's own load hooks resize it. The log then says how
    many tensors matched, which were resized, and which of the declared exceptions occurred. Nothing
    but weights is read, see :func:`~mmmixpro.utils.weights.load_weights`. A failure on one rank is
    raised on all.

    Args:
        checkpoint: With ``strict``, a file or an address as ``load_weights`` takes it.
        prefix: Part of the checkpoint to load, such as ``'backbone.'``. None loads all.
        map_location: Device to read the checkpoint to.
        strict: False is mmengine's behaviour, unchanged.
        allow_missing: Names of tensors, relative to the module, that the checkpoint may lack; with
            ``*`` and ``?`` as in file names.
        allow_unexpected: Likewise, keys below ``prefix`` that may stay unused, whether the module
            has no such tensor or its load hooks drop it.

    Raises:
        TypeError: If a list of exceptions is a string.
        ValueError: If exceptions are declared without ``strict``. At ``init_weights()``: if the
            checkpoint does not fit, carries code or is none.
        FileNotFoundError: At ``init_weights()``: if there is no checkpoint.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        strict: bool = False,
        allow_missing: Sequence[str] = (),
        allow_unexpected: Sequence[str] = (),
    ):
        super().__init__(checkpoint, prefix, map_location)
        for name, patterns in (
            ('allow_missing', allow_missing),
            ('allow_unexpected', allow_unexpected),
        ):
            if isinstance(patterns, str):
                raise TypeError(f'{name} must be a list of patterns, got the string {patterns!r}.')
            if patterns and not strict:
                raise ValueError(f'{name}={patterns} needs strict=True: else nothing is refused.')
        self.strict = strict
        self.allow_missing = allow_missing
        self.allow_unexpected = allow_unexpected

    def __call__(self, module: nn.Module) -> None:
        if not self.strict:
            super().__call__(module)
            return
        error: Exception | None = None
        try:
            self._load(module)
        except Exception as raised:
            error = raised
        # The runner broadcasts next: ranks that did not fail would wait there for the one that did.
        errors = all_gather_object(error and str(error))
        if error is not None:
            raise error
        for rank, message in enumerate(errors):
            if message is not None:
                raise ValueError(f'No rank goes on, for rank {rank} failed: {message}')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _load(self, module: nn.Module) -> None:
        where = (
            'Expected what pretraining has saved, such as work_dirs/mixpro/deit-s_8xb128_in1k/epoch_300.pth of '
            'configs/mixpro/deit-s_8xb128_in1k.py. Set the `checkpoint` of this init_cfg, for the configs of MMMixPro '
            'by the environment variable MIXPRO_CHECKPOINT.'
        )
        weights = load_weights(self.checkpoint, self.prefix, self.map_location, where)
        what = f'{self.checkpoint} (prefix {self.prefix!r}) into {type(module).__name__}'
        advice = (
            'Give the checkpoint of the same model, or set `prefix` to where its weights are. '
            'What may be missing or unexpected can be declared in init_cfg: '
            'allow_missing=[...], allow_unexpected=[...].'
        )
        print_log(load_strictly(module, weights, what, advice, self.allow_missing, self.allow_unexpected), 'current')


def load_strictly(
    module: nn.Module,
    weights: dict[str, Tensor],
    what: str,
    advice: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> str:
    """Load weights that fit a module, see :class:`StrictPretrainedInit`.

    Args:
        module: The module.
        weights: Weights by name.
        what: Names the two in messages.
        advice: What to do about weights that do not fit.
        allow_missing: Patterns of names that may be missing.
        allow_unexpected: Patterns of names that may stay unused.

    Returns:
        str: What was loaded, for the log.

    Raises:
        ValueError: If they do not fit. The module is then as it was.
    """
    # A module learns what its load hooks make of the weights only by loading them.
    before = {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    try:
        return _load_or_refuse(module, weights, what, advice, allow_missing, allow_unexpected)
    except BaseException:
        state = module.state_dict()
        for key, value in before.items():
            state[key].copy_(value)
        raise


def _load_or_refuse(
    module: nn.Module,
    weights: dict[str, Tensor],
    what: str,
    advice: str,
    allow_missing: Sequence[str],
    allow_unexpected: Sequence[str],
) -> str:
    state = module.state_dict()
    expected, stored = _shapes(state), _shapes(weights)
    try:
        found = _load_what_fits(module, weights, expected)
    except Exception as error:
        # The one tensor without which the rest loads, or all whose shapes differ.
        unlike = [k for k in expected if _loads(module, weights, expected, without=k)]
        unlike = unlike or [k for k in expected if stored.get(k, expected[k]) != expected[k]]
        raise ValueError(
            f'Cannot load {what}: its load hooks failed with "{error}".\n'
            f'  of a shape they cannot use ({len(unlike)}): {_compared(unlike, stored, expected)}\n'
            f'{advice}'
        ) from error

    resized = [k for k in found if k in stored and stored[k] != found[k]]
    unlike = [k for k in found if found[k] != expected[k]]
    # Indices of positions are computed.
    learned = [k for k in resized if state[k].is_floating_point()]
    unlike += [k for k in learned if k not in unlike and not _same_channels(stored[k], found[k])]
    missing, lacking = _divide(expected.keys() - found.keys(), allow_missing)
    unexpected, unused = _divide(weights.keys() - found.keys(), allow_unexpected)
    matched = f'{len(found) - len(unlike)} of {len(expected)} tensors'
    if missing or unexpected or unlike:
        raise ValueError(
            f'Cannot load {what}: {matched} match.\n'
            f'  missing in the checkpoint ({len(missing)}): {listed(missing)}\n'
            f'  unexpected in the checkpoint ({len(unexpected)}): {listed(unexpected)}\n'
            f'  of another shape ({len(unlike)}): {_compared(unlike, stored, expected)}\n'
            f'{advice}'
        )
    return (
        f'Loaded {what}: {matched} matched; resized: {_compared(resized, stored, expected)}; '
        f'missing, as declared: {listed(lacking)}; '
        f'unexpected, as declared: {listed(unused)}.'
    )


def _load_what_fits(module: nn.Module, weights: dict[str, Tensor], expected: dict[str, Shape]) -> dict[str, Shape]:
    """Load the tensors whose shapes agree.

    Returns:
        dict[str, Shape]: For each name that both sides have, the shape that the module's load hooks
        have made of the stored one.
    """
    found: dict[str, Shape] = {}

    def take_out_unlike(state_dict: dict, prefix: str, *args: Any) -> None:
        for key, shape in _shapes(state_dict).items():
            if key in expected and key.startswith(prefix) and '.' not in key[len(prefix) :]:
                found[key] = shape
                if shape != expected[key]:
                    # load_state_dict would raise, and tell nothing of the other keys.
                    del state_dict[key]

    # Registered last, it runs after the hooks by which a module resizes or drops what is stored.
    handles = [m._register_load_state_dict_pre_hook(take_out_unlike) for m in module.modules()]
    try:
        module.load_state_dict(weights, strict=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _loads(module: nn.Module, weights: dict[str, Tensor], expected: dict[str, Shape], without: str) -> bool:
    try:
        _load_what_fits(module, {k: v for k, v in weights.items() if k != without}, expected)
    except Exception:
        return False
    return True


def _shapes(tensors: dict[str, Any]) -> dict[str, Shape]:
    return {k: tuple(v.shape) if isinstance(v, Tensor) else None for k, v in tensors.items()}


def _same_channels(stored: Shape, found: Shape) -> bool:
    """Whether both have as many axes, and as many channels, which come last in embeddings."""
    if not stored or not found:
        return False
    return len(stored) == len(found) and stored[-1] == found[-1]


def _divide(keys: Iterable[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys that match no pattern, and those that do."""
    declared = {key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)}
    return sorted(set(keys) - declared), sorted(declared)


def _compared(keys: Iterable[str], stored: dict[str, Shape], expected: dict[str, Shape]) -> str:
    return listed(f'{key} {stored.get(key)} -> {expected[key]}' for key in keys)
