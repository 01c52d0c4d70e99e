# Copyright (c) MMMixPro contributors.
"""The versions of the host libraries that MMMixPro works with."""

import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version


class Host(NamedTuple):
    """A host library.

    Attributes:
        supported: Its versions.
        fork: What pip installs for the stack of the maintained forks, which ``requirements/lock.txt`` pins too.
        upstream: Likewise, for the stack of the upstream packages and ``requirements/upstream.txt``.
    """

    supported: SpecifierSet
    fork: str
    upstream: str


# Both stacks share their import names. torch before 2.4 cannot read checkpoints without running what they carry.
HOSTS = {
    'torch': Host(SpecifierSet('>=2.4,<3'), 'torch==2.11.0', 'torch==2.11.0'),
    'torchvision': Host(SpecifierSet('>=0.19,<1'), 'torchvision==0.26.0', 'torchvision==0.26.0'),
    'mmengine': Host(SpecifierSet('>=0.10.7,<0.11'), 'onedl-mmengine==0.10.12', 'mmengine==0.10.7'),
    'mmcv': Host(SpecifierSet('>=2.1,<2.4'), 'onedl-mmcv==2.3.6', 'mmcv-lite==2.1.0'),
    'mmpretrain': Host(
        SpecifierSet('>=1.2,<1.4'),
        'onedl-mmpretrain==1.3.6 model-index',
        "mmpretrain==1.2.0 model-index 'setuptools<81'",
    ),
    'mmseg': Host(SpecifierSet('>=1.2,<1.5'), 'onedl-mmsegmentation==1.4.2', 'mmsegmentation==1.2.2 ftfy regex'),
    'mmdet': Host(SpecifierSet('>=3.3,<3.6'), 'onedl-mmdetection==3.5.1 pycocotools', 'mmdet==3.3.0'),
}


def installation(name: str) -> str:
    """The command that installs a host library, of the stack that is there.

    Args:
        name: Out of :data:`HOSTS`.
    """
    torch = sys.modules.get('torch')
    if name == 'torchvision' and torch is not None:
        # Each is made for one torch: 0.19 for 2.4, 0.20 for 2.5, and so on.
        return f"pip install 'torchvision==0.{Version(torch.__version__).minor + 15}.*'"
    distributions = packages_distributions()
    upstream = distributions.get('mmengine') == ['mmengine']
    wanted = HOSTS[name].upstream if upstream else HOSTS[name].fork
    # pip knows no conflict between packages that write into the same folder, such as mmcv-lite and onedl-mmcv.
    others = sorted(set(distributions.get(name, [])) - {wanted.split('==')[0]})
    uninstall = f'pip uninstall -y {" ".join(others)} && ' if others else ''
    return f'{uninstall}pip install {wanted}'


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
        try:
            found = import_module(name).__version__
        except ModuleNotFoundError as error:
            if error.name == name:
                raise ImportError(f'{expected}, found none: {installation(name)}') from None
            raise ImportError(f'{expected}, found one that lacks {error.name!r}: {installation(name)}') from error
        # mmpretrain, mmseg and mmdet assert the version of mmcv they accept; compiled code made for another torch
        # raises RuntimeError, OSError and more.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ImportError(f'{expected}, found one that fails: {reason}; {installation(name)}') from error
        if not host.supported.contains(found, prereleases=True):
            raise ImportError(f'{expected}, found {found}: {installation(name)}')
