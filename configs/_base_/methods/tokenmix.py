# TokenMix (https://arxiv.org/abs/2207.08409): half of the tokens in blocks, labels by what a frozen ResNet-50 sees of
# them. The teacher's weights: $TOKENMIX_TEACHER, mmpretrain's resnet50_8xb32_in1k.
method = dict(
    type='MixClassifier',
    labels=dict(type='ContentLabels'),
    train_cfg=dict(
        augments=[
            dict(
                type='TokenMix',
                mask_type='block',
                mask_size=16,
                mask_ratio=0.5,
                min_block_tokens=14,
                teacher=dict(
                    type='ImageClassifier',
                    backbone=dict(type='ResNet', depth=50),
                    neck=dict(type='GlobalAveragePooling'),
                    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
                    init_cfg=dict(
                        type='Pretrained',
                        checkpoint='{{$TOKENMIX_TEACHER:data/resnet50_8xb32_in1k_20210831-ea4938fc.pth}}',
                        strict=True,
                    ),
                ),
            ),
            dict(type='Mixup', alpha=0.8),
        ],
        probs=[0.5, 0.5],
    ),
)
