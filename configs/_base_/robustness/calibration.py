# Calibration on the config's own test set: is it right as often as it is sure?
robustness = dict(
    evaluator=[
        dict(type='ExpectedCalibrationError'),
        dict(type='EqualMassCalibrationError'),
        dict(type='RMSCalibrationError'),
        dict(type='HendrycksRMSCalibrationError'),
    ],
)
