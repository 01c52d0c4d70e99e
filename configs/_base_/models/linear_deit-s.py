# DeiT-S at 480 px, one linear layer on each patch token, bilinear upsampling.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # The pretraining's, in RGB.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(480, 480),
        # Whole patches: a map of tokens that reaches beyond the image would be squeezed into it.
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=480,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
        # The checkpoint: $MIXPRO_CHECKPOINT, or model.backbone.init_cfg.checkpoint.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/deit-s_8xb128_in1k/epoch_300.pth}}',
            prefix='backbone.',
            strict=True,
        ),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=384,
        channels=384,
        num_classes=60,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(320, 320)),
)
tta_model = dict(type='SegTTAModel')
