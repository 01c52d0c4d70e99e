# Copyright (c) MMMixPro contributors.
"""The versions of the host libraries that MMMixPro works with."""

from importlib import import_module
from typing import NamedTuple

from packaging.specifiers import SpecifierSet


class Host(NamedTuple):
    supported: SpecifierSet
    install: str


# The maintained forks (onedl-*) and the upstream packages share their import names.
HOSTS = {
    'torch': Host(SpecifierSet('>=2.1,<3'), 'torch==2.11.0'),
    'torchvision': Host(SpecifierSet('>=0.16,<1'), 'torchvision==0.26.0'),
    'mmengine': Host(SpecifierSet('>=0.10.7,<0.11'), 'onedl-mmengine==0.10.12'),
    'mmcv': Host(SpecifierSet('>=2.1,<2.4'), 'onedl-mmcv==2.3.6'),
    'mmpretrain': Host(SpecifierSet('>=1.2,<1.4'), 'onedl-mmpretrain==1.3.6 model-index'),
    'mmseg': Host(SpecifierSet('>=1.2,<1.5'), 'onedl-mmsegmentation==1.4.2'),
    'mmdet': Host(SpecifierSet('>=3.3,<3.6'), 'onedl-mmdetection==3.5.1 pycocotools'),
}


def require(*modules: str) -> None:
    """Import host libraries in the given order and check their versions.

    Args:
        modules: Names out of :data:`HOSTS`, a library after those it builds on.

    Raises:
        ImportError: If one is missing, fails to import, or has an unsupported version; the one
            line says what was expected, what was found and what to install.
    """
    for name in modules:
        host = HOSTS[name]
        expected = f'MMMixPro needs {name} {host.supported}'
        mend = f'pip install {host.install}'
        try:
            found = import_module(name).__version__
        except ModuleNotFoundError as error:
            if error.name == name:
                raise ImportError(f'{expected}, found none: {mend}') from None
            raise ImportError(f'{expected}, found one that lacks {error.name!r}: {mend}') from error
        # mmpretrain, mmseg and mmdet assert the version of mmcv they accept while being imported.
        except (ImportError, AssertionError) as error:
            raise ImportError(f'{expected}, found one that fails: {error}; {mend}') from error
        if not host.supported.contains(found, prereleases=True):
            raise ImportError(f'{expected}, found {found}: {mend}')
