_base_ = '../transmix/deit-s_8xb128_in1k.py'
model = dict(type='PALClassifier', labels=dict(_delete_=True, type='ProgressiveAttentionLabels'))
