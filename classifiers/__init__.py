"""How sensitive is this text? Recognizers find spans, calibration makes a level of them. Pure but for `onnx/`.

Stands above sync (whose levels it uses) and below hub and agent, and is usable by itself: see `engine`.
"""
