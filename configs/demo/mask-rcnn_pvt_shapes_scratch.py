_base_ = 'mask-rcnn_pvt_shapes.py'
# As the pretraining starts.
model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ]
    )
)
