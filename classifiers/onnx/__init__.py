"""ONNX models. The door to onnxruntime, for the whole house."""
