# tokenmix.py with activation maps that come with the images: see imagenet_bs128_224_content.py.
method = dict(
    type='TokenMixClassifier',
    labels=dict(type='ContentLabels'),
    train_cfg=dict(
        augments=[
            dict(type='TokenMix', mask_type='block', mask_size=16, mask_ratio=0.5, min_block_tokens=14),
            dict(type='Mixup', alpha=0.8),
        ],
        probs=[0.5, 0.5],
    ),
)
