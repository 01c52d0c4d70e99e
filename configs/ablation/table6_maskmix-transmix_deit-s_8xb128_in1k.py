_base_ = '../mixpro/deit-s_8xb128_in1k.py'
model = dict(type='MixClassifier', labels=dict(type='AttentionLabels', area_weight=0.5))
