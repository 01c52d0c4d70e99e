# One linear layer on each patch, in place of the mask transformer.
_base_ = 'segmenter_deit_real.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=128,
        channels=128,
        num_classes=11,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        ignore_index=11,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
)
