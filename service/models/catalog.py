"""The InsightFace packs that can be installed by name: their source, their content and their license.

The digests are those that InsightFace publishes with its model zoo (archives) and checks in its own server (files).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.errors import NotFound

_RELEASE = "https://github.com/deepinsight/insightface/releases/download/model-zoo/"

LICENSE_NOTICE = (
    "InsightFace's public weights are for non-commercial research only; commercial use needs a license from "
    "InsightFace (https://www.insightface.ai)."
)

_DET_10G = "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91"
_DET_2_5G = "041f73f47371333d1d17a6fee6c8ab4e6aecabefe398ff32cca4e2d5eaee0af9"
_DET_500M = "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"
_R50 = "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
_MBF = "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f"
_R100 = "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"


@dataclass(frozen=True)
class CatalogPack:
    """A published pack. `files` holds the SHA-256 of detector and recognition model, or is empty if the pack's manifest
    has them.
    """

    name: str
    description: str
    archive_digest: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Download address of InsightFace."""
        return f"{_RELEASE}{self.name}.zip"


_PACKS = (
    CatalogPack(
        "buffalo_l",
        "SCRFD 10G, ResNet-50 on WebFace600K, 512 numbers, 289 MB",
        "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
        {"det_10g.onnx": _DET_10G, "w600k_r50.onnx": _R50},
    ),
    CatalogPack(
        "buffalo_m",
        "SCRFD 2.5G, ResNet-50 on WebFace600K, 512 numbers, 276 MB",
        "d98264bd8f2dc75cbc2ddce2a14e636e02bb857b3051c234b737bf3b614edca9",
        {"det_2.5g.onnx": _DET_2_5G, "w600k_r50.onnx": _R50},
    ),
    CatalogPack(
        "buffalo_s",
        "SCRFD 500M, MobileFaceNet on WebFace600K, 512 numbers, 122 MB",
        "d85a87f503f691807cd8bb97128bdf7a0660326cd9cd02657127fa978bab8b5e",
        {"det_500m.onnx": _DET_500M, "w600k_mbf.onnx": _MBF},
    ),
    CatalogPack(
        "buffalo_sc",
        "the two networks of buffalo_s alone, 15 MB",
        "57d31b56b6ffa911c8a73cfc1707c73cab76efe7f13b675a05223bf42de47c72",
        {"det_500m.onnx": _DET_500M, "w600k_mbf.onnx": _MBF},
    ),
    CatalogPack(
        "antelopev2",
        "SCRFD 10G, ResNet-100 on Glint360K, 512 numbers, 361 MB",
        "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5",
        {"scrfd_10g_bnkps.onnx": _DET_10G, "glintr100.onnx": _R100},
    ),
    CatalogPack(
        "raccoon_s",
        "SCRFD 10G, MobileFaceNet, 512 numbers, with a manifest",
        "f67a624ef8a4495899eb4359a8a6953f7b4c62a8399c5bc745c0e0f6582f898d",
    ),
    CatalogPack(
        "raccoon_l",
        "SCRFD 10G, ResNet-50, 512 numbers, with a manifest",
        "70cd4f2f1de0a89dd0983bdac55a066a6178543f86e9ec87154f6f259bdded7e",
    ),
)

CATALOG: Mapping[str, CatalogPack] = {pack.name: pack for pack in _PACKS}


def catalog_pack(name: str) -> CatalogPack:
    """The published pack of that name. Raises NotFound, which lists the packs."""
    if name not in CATALOG:
        raise NotFound(f"no published pack {name!r}; the packs are: {', '.join(CATALOG)}")
    return CATALOG[name]
