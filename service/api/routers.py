"""All routers of `/v1` and the health routes, in the order of the documentation."""

from fastapi import APIRouter

from service.api import (
    checks,
    datasets,
    faces,
    galleries,
    health,
    jobs,
    keys,
    operator_keys,
    operator_tenants,
    people,
    pictures,
    recognition,
    streams,
    usage,
)

ROUTERS: tuple[APIRouter, ...] = (
    galleries.router,
    people.router,
    faces.of_gallery,
    faces.router,
    recognition.router,
    streams.router,
    checks.router,
    pictures.router,
    datasets.router,
    jobs.router,
    keys.router,
    usage.router,
    operator_tenants.router,
    operator_keys.router,
    health.router,
)
