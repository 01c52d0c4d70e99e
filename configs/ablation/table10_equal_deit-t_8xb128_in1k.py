_base_ = '../mixpro/deit-t_8xb128_in1k.py'
model = dict(labels=dict(type='AttentionLabels', area_weight=0.5, nearest=False))
