"""The background queue: jobs as their tenants see them, their input files, and who works them off."""
