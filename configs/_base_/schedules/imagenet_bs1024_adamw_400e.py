# CaiT and XCiT, in MixPro's table 1 as in their own papers.
_base_ = 'imagenet_bs1024_adamw_300e.py'
train_cfg = dict(max_epochs=400)
