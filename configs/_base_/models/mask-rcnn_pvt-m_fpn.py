# Without drop path, as in PVT's released code for detection.
_base_ = 'mask-rcnn_pvt-s_fpn.py'
model = dict(
    backbone=dict(
        arch='medium',
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='{{$MIXPRO_CHECKPOINT:work_dirs/mixpro/pvt-m_8xb128_in1k/epoch_300.pth}}'),
    )
)
