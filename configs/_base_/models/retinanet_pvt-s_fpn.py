# RetinaNet on PVT-S (version 1) with FPN. https://arxiv.org/abs/2102.12122
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.PVT',
        arch='small',
        img_size=224,
        drop_path_rate=0.1,
        out_type='featmap',
        # The checkpoint: $MIXPRO_CHECKPOINT, or model.backbone.init_cfg.checkpoint.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/pvt-s_8xb128_in1k/epoch_300.pth}}',
            prefix='backbone.',
            strict=True,
            # Dense prediction has no class token, and so no norm for it.
            allow_unexpected=['cls_token', 'norm.weight', 'norm.bias'],
        ),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
