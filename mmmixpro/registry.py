# Copyright (c) MMMixPro contributors.
"""The scope ``mmmixpro``, so that what ``_base_ = 'mmmixpro::mixpro/x.py'`` brings can be built.

mmengine marks each dict inherited through ``mmmixpro::`` with ``_scope_='mmmixpro'`` and looks its
``type`` up in the registries of that scope. MMMixPro has none of its own: its classes stand in
mmpretrain's, and its dense configs are made of mmseg's and mmdet's. So the scope stands for the
library that the running config names as ``default_scope``.
"""

import mmengine.registry
from mmengine.registry import DefaultScope, Registry
from mmpretrain.registry import BATCH_AUGMENTS

SCOPE = 'mmmixpro'


class ScopeAlias(Registry):
    """Looks everything up in the library of ``default_scope`` (none: mmpretrain)."""

    def get(self, key: str) -> type | None:
        # The newest scope is `mmmixpro` itself while one of its dicts is being built.
        scopes = [scope.scope_name for scope in DefaultScope._instance_dict.values()]
        host = next((name for name in reversed(scopes) if name != SCOPE), 'mmpretrain')
        with self.parent.switch_scope_and_registry(host) as registry:
            return registry.get(key)


ROOTS = [root for root in vars(mmengine.registry).values() if isinstance(root, Registry)]
# BATCH_AUGMENTS is mmpretrain's own and has no parent in mmengine.
ALIASES = [ScopeAlias(root.name, parent=root, scope=SCOPE) for root in [*ROOTS, BATCH_AUGMENTS]]
