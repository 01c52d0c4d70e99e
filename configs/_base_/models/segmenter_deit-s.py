# Segmenter: DeiT-S at 480 px with a mask transformer. https://arxiv.org/abs/2105.05633
_base_ = 'linear_deit-s.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='SegmenterMaskTransformerHead',
        in_channels=384,
        channels=384,
        num_classes=60,
        num_layers=2,
        num_heads=6,
        embed_dims=384,
        dropout_ratio=0.0,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
)
