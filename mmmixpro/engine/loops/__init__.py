# Copyright (c) MMMixPro contributors.
from .adversarial_loop import AdversarialTestLoop
from .attacks import FGSM, PGD, Attack
from .occlusion_loop import OcclusionTestLoop
from .saliency import GuideAttentionSaliency, OwnAttentionSaliency, Saliency, StoredMapSaliency

__all__ = [
    'FGSM',
    'PGD',
    'AdversarialTestLoop',
    'Attack',
    'GuideAttentionSaliency',
    'OcclusionTestLoop',
    'OwnAttentionSaliency',
    'Saliency',
    'StoredMapSaliency',
]
