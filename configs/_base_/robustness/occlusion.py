# Patches set to 0 before normalisation (Fig. 3 of MixPro; https://arxiv.org/abs/2105.10497). With $DINO_CHECKPOINT, the
# official dino_deitsmall16_pretrain.pth, DINO's ViT-S tells which are salient, by the head that was published; without,
# the class attention of the model under test. The log says which it was.
dino_checkpoint = '{{$DINO_CHECKPOINT:none}}'
dino = dict(
    type='GuideAttentionSaliency',
    checkpoint=dino_checkpoint,
    head=1,
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch='deit-small', img_size=224, patch_size=16),
        data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    ),
)
robustness = dict(
    evaluator=[dict(type='CompactAccuracy')],
    test_cfg=dict(
        type='OcclusionTestLoop',
        ratios=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        kinds=['random', 'salient', 'non-salient'],
        grid=14,
        seed=0,
        saliency=dict(type='OwnAttentionSaliency') if dino_checkpoint == 'none' else dino,
    ),
)
