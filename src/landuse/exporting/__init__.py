"""From a trained model to what serves it: ONNX graphs, smaller ones, and the proof that they answer as it does."""
