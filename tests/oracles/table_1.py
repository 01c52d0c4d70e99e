# Copyright (c) MMMixPro contributors.
"""The models of MixPro's Table 1, and CaiT-XXS24."""

# Millions of parameters, to two more digits where those of Table 1 are few; billions of FLOPs, as commonly counted for
# DeiT-T and DeiT-S, which it prints as 1.6 and 4.7; drop path and epochs as published, and the size to which the
# shorter side is resized in tests.
TABLE_1 = {
    'deit-t': (5.7, 1.3, 0.1, 300, 256),
    'deit-s': (22.1, 4.6, 0.1, 300, 256),
    'deit-b': (86.6, 17.6, 0.1, 300, 256),
    'pvt-t': (13.2, 1.9, 0.1, 300, 256),
    'pvt-s': (24.5, 3.8, 0.1, 300, 256),
    'pvt-m': (44.2, 6.7, 0.3, 300, 256),
    'pvt-l': (61.4, 9.8, 0.3, 300, 256),
    'cait-xxs24': (11.96, 2.5, 0.05, 400, 224),
    'cait-xxs36': (17.30, 3.8, 0.1, 400, 224),
    'xcit-t24': (12.12, 2.3, 0.05, 400, 224),
    'xcit-s12': (26.25, 4.8, 0.05, 400, 224),
    'xcit-m24': (84.40, 16.2, 0.15, 400, 224),
    'xcit-l24': (189.10, 36.1, 0.25, 400, 224),
    'ca-swin-t': (28.29, 4.2, 0.2, 300, 256),
    'ca-swin-s': (49.60, 8.5, 0.3, 300, 256),
}
