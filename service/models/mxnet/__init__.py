"""Converter from MXNet's model folders to ONNX: readers of its two file formats. Needs no MXNet."""
