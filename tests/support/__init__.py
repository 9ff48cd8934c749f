"""What the test rooms share."""
