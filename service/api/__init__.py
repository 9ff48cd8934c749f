"""The dialect `/v1`: one file per resource, with its routes and its request and response models."""
