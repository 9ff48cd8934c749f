"""How much of the model's own speed is left when pictures are recognized over HTTP."""
