# Copyright (c) MMMixPro contributors.
from .backbones import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessor import ContentDataPreprocessor, MixDataPreprocessor  # noqa: F401
from .necks import *  # noqa: F403
