"""One Settings class: every setting the program reads, its default and its meaning.

Values come from the environment or `.env`; nothing is read at import time.
"""

from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """Every setting of the service. Environment names are the field names in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    database_url: str | None = Field(
        default=None, description="PostgreSQL server with pgvector; empty: the embedded one in DATA_DIR."
    )
    database_service_url: str | None = Field(
        default=None, description="Login of the service itself; empty: a role of its own made by migrate."
    )
    database_pool_size: int = Field(default=8, ge=1, le=200, description="Connections a process holds at most.")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("face-identity"),
        description="Embedded database, installed models and secrets.",
    )
    encoder: str = Field(
        default="dlib",
        description="dlib | fake | insightface:NAME_OR_FOLDER | legacy:FOLDER | legacy-padded-crop:FOLDER; several "
        "comma-separated, the first is the default.",
    )
    detector_load_device: int = Field(default=-1, ge=-1, description="Detection device: -1 CPU, 0..N GPU.")
    recognizer_load_device: int = Field(default=-1, ge=-1, description="Recognition device: -1 CPU, 0..N GPU.")
    inference_provider: Literal["auto", "cpu", "cuda", "tensorrt", "openvino", "coreml"] = Field(
        default="auto", description="What networks run on; auto: the processor for device -1, CUDA for 0..N."
    )
    liveness: Literal["off", "observe", "enforce"] = Field(
        default="off", description="Living face or picture of one (insightface with its liveness addon only)."
    )
    liveness_threshold: float = Field(default=0.8, ge=0, le=1, description="Liveness score of a living face.")
    enrollment_review: Literal["off", "standard", "strict"] = Field(
        default="off",
        description="Quality asked of new references; strict also wants them nearest to their own person.",
    )
    recognition_review: Literal["off", "standard", "strict"] = Field(
        default="off", description="Quality asked of faces that are recognized or verified."
    )
    attributes: Literal["off", "age-gender"] = Field(
        default="off", description="Guess age and gender (insightface packs that can); guesses mislead, so off."
    )
    server_ip: str = Field(default="127.0.0.1", description="Address that serve listens on.")
    server_port: int = Field(default=8000, ge=0, le=65535, description="Port that serve listens on.")
    server_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that answer, each with its own models; more of them help embeddings, not pictures.",
    )
    server_ssl_context: Path | None = Field(
        default=None, description="File of the TLS certificate and its chain (PEM); empty: plain HTTP."
    )
    server_ssl_keyfile: Path | None = Field(default=None, description="File of the certificate's private key (PEM).")
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks, comma-separated, whose X-Forwarded-For and -Proto are believed.",
    )
    allowed_origins: str = Field(
        default="",
        description="Origins, comma-separated, whose pages may call this server from a browser; empty: none.",
    )
    client_patience_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How long a client may be silent within a request, or not read its answer, until it is hung up on.",
    )
    worker_in_server: bool = Field(default=True, description="serve also runs background jobs.")
    maximum_image_bytes: int = Field(default=20 * MEBIBYTE, gt=0, description="Largest image upload, in bytes.")
    maximum_request_bytes: int = Field(
        default=128 * MEBIBYTE, gt=0, description="Largest request with pictures or probes, in bytes."
    )
    maximum_image_pixels: int = Field(default=40_000_000, gt=0, description="Largest image, in pixels.")
    maximum_import_bytes: int = Field(default=8192 * MEBIBYTE, gt=0, description="Largest dataset, in bytes.")
    maximum_faces: int = Field(default=200, gt=0, description="Faces encoded in one picture, largest first.")
    search_audit_share: float = Field(
        default=0.001, ge=0.0, le=1.0, description="Share of probes that are also searched exactly, as a check."
    )
    tenant_requests_per_minute: int | None = Field(
        default=None, gt=0, description="A new tenant's quota of requests that run no model; empty: no limit."
    )
    tenant_inferences_per_minute: int | None = Field(
        default=None, gt=0, description="A new tenant's quota of pictures that a model runs over; empty: no limit."
    )
    tenant_maximum_galleries: int | None = Field(
        default=None, gt=0, description="A new tenant's quota of galleries; empty: no limit."
    )
    tenant_maximum_faces_per_gallery: int | None = Field(
        default=None, gt=0, description="A new tenant's quota of faces, and of people, a gallery; empty: no limit."
    )
    tenant_maximum_stored_bytes: int | None = Field(
        default=None, gt=0, description="A new tenant's quota of stored bytes; empty: no limit."
    )
    legacy_api: Literal["off", "key", "open"] = Field(
        default="key",
        description="The legacy recognizer's HTTP API: off | key | open (no key asked: for trusted networks only).",
    )
    legacy_encoder: str | None = Field(
        default=None,
        description="Encoder of everything legacy, also legacy-padded-crop:FOLDER; empty: the first of ENCODER.",
    )
    legacy_tenant: str = Field(
        default="legacy", description="Tenant that callers without a key act for (LEGACY_API=open); made when missing."
    )
    legacy_dataset_seconds: int = Field(
        default=86_400, ge=600, description="How long an uploaded dataset is kept ready after its last use, in seconds."
    )
    # Any value is taken: shells and images use the name ENV for things of their own.
    env: str = Field(
        default="production", description="development: serve starts anew when the program changes; else it does not."
    )
    logger_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        validation_alias=AliasChoices("logger_level", "LOGGER_LEVEL"),
        description="Log level.",
    )

    @field_validator("logger_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        """The legacy recognizer took both spellings."""
        return value.upper() if isinstance(value, str) else value
