"""Tests of the MXNet readers and the converter."""
