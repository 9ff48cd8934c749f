"""Our own dialect, `/v1`: one file a resource, the route and its request and response models."""
