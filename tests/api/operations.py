"""Every operation of the application, with a valid request for each."""

from dataclasses import dataclass
from typing import Any

from service.app import create_app
from service.encoder.fake_pictures import draw_people
from service.settings import Settings

OFFER = "\r\n".join(
    [
        *("v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0"),
        *("m=video 9 UDP/TLS/RTP/SAVPF 97", "c=IN IP4 0.0.0.0", "a=sendonly", "a=mid:0", "a=rtcp-mux"),
        *("a=rtpmap:97 VP8/90000", "a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuv"),
        *("a=fingerprint:sha-256 " + ":".join(["AB"] * 32), "a=setup:actpass", ""),
    ]
)
"""The offer of a WebRTC peer that sends a video and has no address."""
PUBLIC = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}


@dataclass(frozen=True)
class Operation:
    """One method on one path. `needed_scope` is empty if the operation needs no key."""

    method: str
    path: str
    needed_scope: str
    required_query: tuple[str, ...] = ()
    optional_query: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def template(self) -> str:
        """The path and the required query parameters, with a field in braces for each value."""
        query = "&".join(f"{name}={{{name}}}" for name in self.required_query)
        return f"{self.path}?{query}" if query else self.path

    def url(self, **values: str) -> str:
        """The template with its fields filled in."""
        return self.template.format(**values)


def operations() -> list[Operation]:
    """The operations of the OpenAPI document. A test in `test_every_route.py` proves that it hides no route."""
    described = create_app(Settings(_env_file=None, encoder="fake")).openapi()["paths"]
    return [
        Operation(method.upper(), path, operation.get("x-needed-scope", ""), *_query(operation))
        for path, methods in described.items()
        for method, operation in methods.items()
    ]


def _query(operation: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the required and of the optional query parameters."""
    parameters = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    required = tuple(one["name"] for one in parameters if one["required"])
    return required, tuple(one["name"] for one in parameters if not one["required"])


def keyed() -> list[Operation]:
    """The operations that need a tenant's key."""
    return [one for one in operations() if (one.method, one.path) not in PUBLIC and one.needed_scope != "operator"]


def of_operator() -> list[Operation]:
    """The operations that need an operator's key."""
    return [one for one in operations() if one.needed_scope == "operator"]


_PICTURE = {"files": {"image": ("ada.jpg", draw_people(["Ada"]))}}
_PICTURES = {"files": [("image", ("one.jpg", draw_people(["Ada"]))), ("image", ("two.jpg", draw_people(["Ada"])))]}
_EMBEDDING = {"json": {"embedding": [1.0] + [0.0] * 511}}
_ORDERLY: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/galleries"): {"json": {"name": "another"}},
    ("GET", "/v1/galleries"): {},
    ("GET", "/v1/galleries/{gallery}"): {},
    ("PATCH", "/v1/galleries/{gallery}"): {"json": {"threshold": 0.5}},
    ("DELETE", "/v1/galleries/{gallery}"): {},
    ("POST", "/v1/galleries/{gallery}/people"): {"json": {"name": "Ada"}},
    ("GET", "/v1/galleries/{gallery}/people"): {},
    ("GET", "/v1/galleries/{gallery}/people/{person}"): {},
    ("PATCH", "/v1/galleries/{gallery}/people/{person}"): {"json": {"name": "Ada Lovelace"}},
    ("DELETE", "/v1/galleries/{gallery}/people/{person}"): {},
    ("POST", "/v1/galleries/{gallery}/people/{person}/merge"): {"json": {"from": "{other}"}},
    ("POST", "/v1/galleries/{gallery}/faces"): _PICTURE | {"params": {"person": "Ada"}},
    ("POST", "/v1/galleries/{gallery}/faces/embedding"): _EMBEDDING | {"params": {"person": "Ada"}},
    ("POST", "/v1/galleries/{gallery}/people/{person}/faces"): _PICTURE,
    ("POST", "/v1/galleries/{gallery}/people/{person}/faces/embedding"): _EMBEDDING,
    ("GET", "/v1/galleries/{gallery}/people/{person}/faces"): {},
    ("DELETE", "/v1/galleries/{gallery}/people/{person}/faces/{face}"): {},
    ("POST", "/v1/galleries/{gallery}/people/{person}/faces/{face}/move"): {"json": {"to": "{other}"}},
    ("POST", "/v1/galleries/{gallery}/recognize"): _PICTURE,
    ("POST", "/v1/galleries/{gallery}/recognize/embeddings"): _EMBEDDING,
    ("POST", "/v1/galleries/{gallery}/streams"): {"json": {"sdp": OFFER, "type": "offer"}},
    ("GET", "/v1/galleries/{gallery}/check"): {},
    ("POST", "/v1/recognize"): _PICTURE,
    ("POST", "/v1/recognize/embeddings"): _EMBEDDING,
    ("POST", "/v1/galleries/{gallery}/people/{person}/verify"): _PICTURE,
    ("POST", "/v1/galleries/{gallery}/people/{person}/verify/embedding"): _EMBEDDING,
    ("POST", "/v1/compare"): _PICTURES,
    ("POST", "/v1/detect"): _PICTURE,
    ("POST", "/v1/encode"): _PICTURE,
    ("POST", "/v1/galleries/{gallery}/import"): {"content": b'[["Ada", "1,2,3"]]'},
    ("GET", "/v1/galleries/{gallery}/export"): {},
    ("GET", "/v1/jobs"): {},
    ("GET", "/v1/jobs/{job}"): {},
    ("POST", "/v1/keys"): {"json": {"name": "front door"}},
    ("GET", "/v1/keys"): {},
    ("POST", "/v1/keys/{key}/rotate"): {"json": {}},
    ("DELETE", "/v1/keys/{key}"): {},
    ("GET", "/v1/usage"): {},
    ("POST", "/v1/operator/tenants"): {"json": {"name": "acme"}},
    ("GET", "/v1/operator/tenants"): {},
    ("GET", "/v1/operator/tenants/{tenant}"): {},
    ("GET", "/v1/operator/tenants/{tenant}/usage"): {},
    ("PATCH", "/v1/operator/tenants/{tenant}"): {"json": {"maximum_galleries": 3}},
    ("DELETE", "/v1/operator/tenants/{tenant}"): {},
    ("POST", "/v1/operator/keys"): {"json": {"name": "billing"}},
    ("GET", "/v1/operator/keys"): {},
    ("POST", "/v1/operator/keys/{key}/rotate"): {"json": {}},
    ("DELETE", "/v1/operator/keys/{key}"): {},
}


def orderly(operation: Operation, other: str = "p") -> dict[str, Any]:
    """The arguments of a valid request; `other` is the id of a second person. KeyError for an unlisted route."""
    arguments = dict(_ORDERLY[operation.method, operation.path])
    if "json" in arguments:
        fields = arguments["json"].items()
        arguments["json"] = {name: other if value == "{other}" else value for name, value in fields}
    return arguments
