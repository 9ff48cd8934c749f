"""The packages of a wheel. Everything else stands in pyproject.toml, which cannot both find packages and map a folder.

The revisions lie in migrations/ at the top of the repository, and a wheel holds them as service/migrations.
"""

from setuptools import find_packages, setup

MIGRATIONS = {"service.migrations": "migrations", "service.migrations.versions": "migrations/versions"}

setup(packages=[*find_packages(include=["service*", "face_identity"]), *MIGRATIONS], package_dir=MIGRATIONS)
