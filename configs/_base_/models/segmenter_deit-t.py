_base_ = 'segmenter_deit-s.py'
model = dict(
    backbone=dict(
        arch='deit-tiny',
        init_cfg=dict(checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/deit-t_8xb128_in1k/epoch_300.pth}}'),
    ),
    decode_head=dict(in_channels=192, channels=192, embed_dims=192, num_heads=3),
)
