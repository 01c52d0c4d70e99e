# Copyright (c) MMMixPro contributors.
"""The documentation site: ``make docs`` builds it into docs/_build/html, which needs no network to be read."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent / 'extensions'))

import mmmixpro

project = 'MMMixPro'
author = 'MMMixPro contributors'
copyright = '2026, MMMixPro contributors'
version = release = mmmixpro.__version__

extensions = [
    'myst_nb',  # MyST, and notebooks
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    # of docs/extensions
    'formulas',
    'presets',
    'repository',
]
exclude_patterns = ['_build', 'extensions', 'scripts']

nb_execution_mode = 'off'  # notebooks are committed as they ran, and run by tests
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 4  # as GitHub has them
copybutton_prompt_text = '>>> '

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_inherit_docstrings = False  # mmpretrain's are in its own documentation
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
maximum_signature_line_length = 80

# Every reference to something of ours is resolved. Those to other libraries would need the network.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!mmmixpro\b).*')]
# Nor what stands behind the public names of a module: viewcode knows a module by one name only.
nitpick_ignore = [
    ('py:class', 'mmmixpro.datasets.archives.backend.Archive'),
    ('py:class', 'mmmixpro.datasets.occlusion.Occlusion'),
    ('py:class', 'mmmixpro.datasets.robustness.corruption_set.CorruptionSet'),
    ('py:class', 'mmmixpro.mixing.puzzlemix.PuzzleMixPlan'),
    ('py:class', 'mmmixpro.mixing.smmix.SMMixPlan'),
    ('py:func', 'mmmixpro.visualization.curves.read_run'),
]

# The pages on which files of the repository stand; a link to another file leads to its text, see repository.py.
repository_pages = {
    'README.md': 'index',
    'CHANGELOG.md': 'changelog',
    'CONTRIBUTING.md': 'contributing',
    'configs/README.md': 'model_zoo',
    'configs/README.md#robustness': 'robustness',
    'configs/ablation/README.md': 'ablation',
}

html_theme = 'furo'
html_title = f'MMMixPro {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_sphinx = False
