# pvt-s.py from a checkpoint, all but its head, and without drop path, as DeiT is fine-tuned.
_base_ = 'pvt-s.py'
model = dict(
    backbone=dict(
        drop_path_rate=0.0,
        # The checkpoint: $MIXPRO_CHECKPOINT, or model.backbone.init_cfg.checkpoint.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/pvt-s_8xb128_in1k/epoch_300.pth}}',
            prefix='backbone.',
            strict=True,
        ),
    )
)
