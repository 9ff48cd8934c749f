"""How networks run: threads, batches, back-pressure, ONNX Runtime sessions."""
