"""Measuring programs: each says on what machine and data its figures were taken."""
