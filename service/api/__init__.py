"""Our own dialect `/v1`: one file a resource, the route beside its request and response models."""
