# CaiT and XCiT, in MixPro's table 1 as in their own papers. Weight decay is the official one: XCiT's position encoding
# is a convolution, and decays, other than positions that are learned; so does the temperature of its attention.
_base_ = 'imagenet_bs1024_adamw_300e.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'pos_embed.token_projection.conv.weight': dict(decay_mult=1.0)}))
train_cfg = dict(max_epochs=400)
