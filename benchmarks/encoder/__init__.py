"""Compares recognition of images over HTTP with the speed of the models alone."""
