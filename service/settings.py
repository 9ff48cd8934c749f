"""Every setting of the program, its default and its meaning. `settings_sources` says where values are read from.

Each setting has two names. FACE_IDENTITY_ENCODER belongs to this program alone. ENCODER is the older name, which serve,
run.py and containers have always used; other programs use such names too (DATABASE_URL, ENV).
"""

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from platformdirs import user_data_path
from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

MEBIBYTE = 1024 * 1024

PREFIX = "FACE_IDENTITY_"
ROOT_DATA_FOLDER = Path("/var/lib/face-identity")
"""Root's data folder: the system user of the embedded database can enter it, and cannot enter a closed home."""

CommaSeparated = Annotated[list[str], NoDecode]
"""A list; in the environment and in files its items are separated by commas. NoDecode: the value is not JSON."""


def default_data_folder() -> Path:
    """The data folder if none is set: the user's own; ROOT_DATA_FOLDER for root, unless root has data in its home."""
    own = user_data_path("face-identity")
    is_own = os.geteuid() != 0 or bool(os.environ.get("XDG_DATA_HOME")) or own.exists()
    return own if is_own else ROOT_DATA_FOLDER


class Settings(BaseSettings):
    """Every setting of the service. Its names in the environment are the field's name in capitals, and that with
    FACE_IDENTITY_ before it.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)
    reads_older_names: ClassVar[bool] = True
    """Whether the names without the prefix are read."""

    database_url: str | None = Field(
        default=None, description="URL of a PostgreSQL with pgvector; empty: the embedded PostgreSQL in DATA_DIR."
    )
    database_service_url: str | None = Field(
        default=None,
        description="URL with the login of the service; empty: the login of DATABASE_URL, "
        "which becomes the service role.",
    )
    database_pool_size: int = Field(
        default=8, ge=1, le=200, description="Largest number of database connections of one process."
    )
    database_pooler: Literal["auto", "off", "transaction"] = Field(
        default="auto",
        description="Pooler such as PgBouncer at DATABASE_SERVICE_URL: auto (found at the start) | transaction | off "
        "(none, or one in session mode).",
    )
    database_connections_per_tenant: int | None = Field(
        default=None,
        ge=1,
        description="Largest number of these connections that one tenant holds; empty: all but a quarter.",
    )
    database_statement_timeout_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds after which PostgreSQL stops a statement of a request (status 504); 0: never. Jobs and "
        "commands have no limit.",
    )
    data_dir: Path = Field(
        default_factory=default_data_folder,
        description="Folder of the embedded database, installed models and secrets; root's is /var/lib/face-identity.",
    )
    embedded_database_linger_seconds: int = Field(
        default=180,
        ge=0,
        le=86_400,
        description="Seconds that the embedded database stays up after the last command, so that the next one is "
        "quick; 0: stop at once.",
    )
    # The names are those of ENCODER_KINDS in service/encoder/kinds.py, which this room must not import. A test
    # compares them.
    encoder: CommaSeparated = Field(
        default=["dlib"],
        description="Encoders, separated by commas, the default first: dlib | fake | insightface:NAME_OR_FOLDER | "
        "legacy:FOLDER | legacy-padded-crop:FOLDER.",
    )
    detector_load_device: int = Field(
        default=-1, ge=-1, description="Device of the detector: -1 is the CPU, 0..N is a GPU."
    )
    recognizer_load_device: int = Field(
        default=-1, ge=-1, description="Device of the recognition model: -1 is the CPU, 0..N is a GPU."
    )
    inference_provider: Literal["auto", "cpu", "cuda", "tensorrt", "openvino", "coreml"] = Field(
        default="auto", description="ONNX Runtime provider; auto: CPU for device -1, CUDA for 0..N."
    )
    dlib_small_faces: Literal["likely", "always"] = Field(
        default="likely",
        description="When dlib searches for small faces: likely (nothing was found, or a small face nearly) | always.",
    )
    liveness: Literal["off", "observe", "enforce"] = Field(
        default="off",
        description="Liveness check: off, observe (report only) or enforce; needs InsightFace's liveness addon.",
    )
    liveness_threshold: float = Field(default=0.8, ge=0, le=1, description="Lowest liveness score of a live face.")
    enrollment_review: Literal["off", "basic", "standard", "strict"] = Field(
        default="basic",
        description="Quality check of new references: off | basic (refuses useless faces) | standard | strict (also "
        "refuses a face that is closer to another person).",
    )
    recognition_review: Literal["off", "basic", "standard", "strict"] = Field(
        default="basic",
        description="Quality check of faces that are recognized or verified: off | basic | standard | strict.",
    )
    attributes: Literal["off", "age-gender"] = Field(
        default="off",
        description="Estimate age and gender, with InsightFace packs that can. The estimates are unreliable.",
    )
    server_ip: str = Field(default="127.0.0.1", description="Address that serve listens on.")
    server_port: int = Field(default=8000, ge=0, le=65535, description="Port that serve listens on.")
    server_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Server processes, each with its own models. More processes speed up embeddings, not images.",
    )
    server_ssl_context: Path | None = Field(
        default=None, description="PEM file of the TLS certificate and its chain; empty: plain HTTP."
    )
    server_ssl_keyfile: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    trusted_proxies: CommaSeparated = Field(
        default=[],
        description="Addresses or networks, separated by commas, whose X-Forwarded-For and -Proto headers are trusted.",
    )
    allowed_origins: CommaSeparated = Field(
        default=[],
        description="Origins, separated by commas, whose pages may call this server from a browser; empty: none.",
    )
    client_patience_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds that a client may pause in a request, or read an answer slower than 16 KiB/s, before "
        "disconnection.",
    )
    root_path: str = Field(
        default="",
        description="Prefix of the paths at a proxy that removes it, such as /faces; empty: none.",
    )
    worker_in_server: bool = Field(default=True, description="Whether serve also runs background jobs.")
    job_retention_days: int = Field(
        default=30, ge=0, description="Days that a finished job can still be read before it is deleted."
    )
    maximum_image_bytes: int = Field(default=20 * MEBIBYTE, gt=0, description="Largest image upload, in bytes.")
    maximum_request_bytes: int = Field(
        default=128 * MEBIBYTE, gt=0, description="Largest request with images or probes, in bytes."
    )
    maximum_json_bytes: int = Field(
        default=32 * MEBIBYTE, gt=0, description="Largest JSON body with an image or probes, in bytes."
    )
    maximum_image_pixels: int = Field(default=50_000_000, gt=0, description="Largest image, in pixels.")
    maximum_decoded_pixels: int = Field(
        default=0,
        ge=0,
        description="Decoded pixels in memory at a time in a process, about 10 bytes each; more images wait. An image "
        "with more is refused. 0: two of the largest images, or 12 million for each thread.",
    )
    maximum_import_bytes: int = Field(default=8192 * MEBIBYTE, gt=0, description="Largest dataset, in bytes.")
    maximum_body_seconds: float = Field(
        default=300.0, gt=0, le=86_400, description="Seconds in which the body of a request must arrive."
    )
    maximum_import_seconds: float = Field(
        default=7200.0, gt=0, le=604_800, description="Seconds in which the file of an import must arrive."
    )
    maximum_held_bytes: int = Field(
        default=256 * MEBIBYTE,
        gt=0,
        description="Bytes of request bodies that one process holds in memory; one tenant may take half of them.",
    )
    maximum_spooled_bytes: int = Field(
        default=16_384 * MEBIBYTE,
        gt=0,
        description="Bytes of arriving imports that one process keeps in DATA_DIR; one tenant may take half of them.",
    )
    maximum_connections: int = Field(
        default=1000, ge=1, le=100_000, description="Open connections of clients to one process."
    )
    maximum_connections_per_address: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Open connections of one address (IPv6: of one /64 network) to one process; TRUSTED_PROXIES and "
        "Unix sockets are not counted.",
    )
    maximum_faces: int = Field(
        default=200,
        gt=0,
        description="Largest number of faces that are encoded per image; the largest faces come first.",
    )
    search_audit_share: float = Field(
        default=0.001,
        ge=0.0,
        le=1.0,
        description="Share of probes that are searched again exactly, to check the search.",
    )
    tenant_requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="Quota of a new tenant: requests per minute that run no model; 0: no limit.",
    )
    tenant_inferences_per_minute: int = Field(
        default=3_000,
        ge=0,
        description="Quota of a new tenant: images, and the work of as many images in big searches, per minute; 0: no "
        "limit. The default is ten doors that send five images a second each.",
    )
    tenant_maximum_galleries: int = Field(
        default=1_000, ge=0, description="Quota of a new tenant: galleries; 0: no limit."
    )
    tenant_maximum_faces_per_gallery: int = Field(
        default=0,
        ge=0,
        description="Quota of a new tenant: faces per gallery, and people per gallery; 0: no limit.",
    )
    tenant_maximum_stored_bytes: int = Field(
        default=64 * 1024 * MEBIBYTE, ge=0, description="Quota of a new tenant: stored bytes; 0: no limit."
    )
    legacy_api: Literal["off", "key", "open"] = Field(
        default="key",
        description="The legacy recognizer's HTTP API: off | key | open (without a key; for trusted networks only).",
    )
    legacy_hosts: CommaSeparated = Field(
        default=["localhost"],
        description="Names of this server, separated by commas, that callers without a key may use (LEGACY_API=open); "
        "its addresses are always allowed.",
    )
    legacy_encoder: str | None = Field(
        default=None,
        description="Encoder of the legacy API and of the legacy programs; empty: the first of ENCODER.",
    )
    legacy_tenant: str = Field(
        default="legacy", description="Tenant of callers without a key (LEGACY_API=open); created if it does not exist."
    )
    legacy_dataset_seconds: int = Field(
        default=86_400, ge=600, description="Seconds that an uploaded dataset stays in memory after its last use."
    )
    maximum_streams: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Most WebRTC streams of one server process; 0: none. Needs the extra video.",
    )
    maximum_streams_per_tenant: int = Field(
        default=4, ge=1, le=1000, description="Most WebRTC streams of one tenant in one server process."
    )
    ice_servers: CommaSeparated = Field(
        default=[],
        description="Servers that help WebRTC peers behind NAT, separated by commas: stun:HOST:PORT | "
        "turn:USER:PASSWORD@HOST:PORT. Empty: none, and nothing is sent but to the peers.",
    )
    # Every value is accepted, because shells and images use the name ENV for other purposes.
    env: str = Field(
        default="production",
        description="development: serve restarts if the program changes; every other value: it does not.",
    )
    logger_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Log level.")

    @field_validator("encoder", "trusted_proxies", "allowed_origins", "legacy_hosts", "ice_servers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("logger_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        """The legacy recognizer accepted both spellings."""
        return value.upper() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read both names of every setting. The name with the prefix wins."""
        environment: list[PydanticBaseSettingsSource] = [EnvSettingsSource(settings_cls, env_prefix=PREFIX)]
        if cls.reads_older_names:
            environment += [env_settings]
        env_file = dotenv_settings.env_file if isinstance(dotenv_settings, DotEnvSettingsSource) else None
        prefixed_file = DotEnvSettingsSource(settings_cls, env_file=env_file, env_prefix=PREFIX)
        return init_settings, *environment, prefixed_file, dotenv_settings, file_secret_settings
