"""Other services' dialects, each an application of its own with its own error shape."""
