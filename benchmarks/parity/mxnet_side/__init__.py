"""Code that runs under MXNet's own Python; only `decoding` is also imported by the comparison."""
