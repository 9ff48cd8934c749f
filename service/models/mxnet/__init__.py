"""MXNet's model folders to ONNX: readers of its two file formats and a converter. No MXNet is needed or used."""
