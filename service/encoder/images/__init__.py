"""Image files to pixels and back: decoding, downscaling, annotating."""
