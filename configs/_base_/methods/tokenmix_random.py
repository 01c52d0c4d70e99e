# TokenMix with each token drawn by itself (Table 7 of MixPro: random).
_base_ = 'tokenmix.py'
method = dict(
    train_cfg=dict(
        augments=[
            dict(_base_.method.train_cfg.augments[0], mask_type='random'),
            _base_.method.train_cfg.augments[1],
        ]
    )
)
