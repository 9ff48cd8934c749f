"""Attacks on the application and on a real server process."""
