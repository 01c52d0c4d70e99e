# Attentive CutMix (https://arxiv.org/abs/2003.13048): the 6 of 7 x 7 cells that a frozen ResNet-50 attends to most,
# labels by area. The teacher's weights: $ATTENTIVE_CUTMIX_TEACHER, mmpretrain's resnet50_8xb32_in1k.
method = dict(
    type='MixClassifier',
    labels=dict(type='AreaLabels'),
    train_cfg=dict(
        augments=[
            dict(
                type='AttentiveCutMix',
                mask_size=32,
                top_k=6,
                teacher=dict(
                    type='ResNet',
                    depth=50,
                    init_cfg=dict(
                        type='Pretrained',
                        checkpoint='{{$ATTENTIVE_CUTMIX_TEACHER:data/resnet50_8xb32_in1k_20210831-ea4938fc.pth}}',
                        prefix='backbone.',
                        strict=True,
                    ),
                ),
            ),
            dict(type='Mixup', alpha=0.8),
        ],
        probs=[0.5, 0.5],
    ),
)
