"""Compares converted models with MXNet itself: `make parity`."""
