"""What patterns cannot see: people, organisations, places, addresses, health, and what a text is about, by a small ONNX model.

Training shares `features` and `tags` with serving, so that both read a text alike.
"""
