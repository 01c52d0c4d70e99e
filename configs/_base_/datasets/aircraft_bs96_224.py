# FGVC-Aircraft under $FGVC_AIRCRAFT_ROOT: data/images/ and data/images_variant_*.txt.
_base_ = 'finetune_bs96_224.py'
data_root = '{{$FGVC_AIRCRAFT_ROOT:data/fgvc-aircraft-2013b}}'
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(dataset=dict(type='FGVCAircraft', data_root=data_root, split='trainval'))
val_dataloader = dict(dataset=dict(type='FGVCAircraft', data_root=data_root))
test_dataloader = val_dataloader
