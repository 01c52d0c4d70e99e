_base_ = 'retinanet_pvt-s_fpn.py'
model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/pvt-t_8xb128_in1k/epoch_300.pth}}'),
    )
)
