"""Background jobs: their rows as tenants see them, their input files, and the queue that workers read."""
