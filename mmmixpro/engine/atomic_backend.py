# Copyright (c) MMMixPro contributors.
import os
from contextlib import suppress

from mmengine.fileio import LocalBackend, register_backend


@register_backend('mmmixpro.atomic')
class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old one or the new one, never half of it.

    mmengine rewrites a checkpoint in place when the best score improves, and ``last_checkpoint``
    points to it meanwhile: a job killed at that moment could not be resumed. Use it as
    ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='mmmixpro.atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write ``obj`` beside ``filepath``, flush it to the disk, then rename it.

        Args:
            obj: The content.
            filepath: A local path; missing folders are created.

        Raises:
            ValueError: If ``filepath`` is no local path.
        """
        path = os.fspath(filepath)
        if '://' in path:
            raise ValueError(
                f"The file backend 'mmmixpro.atomic' writes local files, got '{path}'. Set the "
                'backend_args of that storage in default_hooks.checkpoint.'
            )
        partial = f'{path}.partial'
        try:
            super().put(obj, partial)
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                os.remove(partial)
            raise
