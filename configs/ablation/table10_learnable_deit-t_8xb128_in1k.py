_base_ = '../mixpro/deit-t_8xb128_in1k.py'
model = dict(labels=dict(type='LearnableAttentionLabels'))
