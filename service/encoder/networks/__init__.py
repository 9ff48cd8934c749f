"""The meaning of each network: its input, its output and the geometry between them."""
