# White-box attacks in the L-infinity ball, with the strengths of RVT (https://arxiv.org/abs/2105.07926), of 255.
robustness = dict(
    evaluator=[dict(type='CompactAccuracy')],
    test_cfg=dict(
        type='AdversarialTestLoop',
        attacks=[dict(type='FGSM', eps=1.0), dict(type='PGD', eps=1.0, step=0.5, steps=5, seed=0)],
    ),
)
