_base_ = 'segmenter_deit-s.py'
model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/deit-b_8xb128_in1k/epoch_300.pth}}'),
    ),
    decode_head=dict(in_channels=768, channels=768, embed_dims=768, num_heads=12),
)
