"""The engines of the comparison, by the name of their column. Each is imported only when it runs."""

from importlib import import_module

from benchmarks.search.peers.contract import Peer

PEERS = {
    "ours": "ours:OverSql",
    "ours-http": "ours:OverHttp",
    "ours-http-2": "ours:OverHttpOfTwo",
    "faiss-flat": "libraries:FaissFlat",
    "faiss-hnsw": "libraries:FaissHnsw",
    "hnswlib": "libraries:Hnswlib",
    "usearch": "libraries:Usearch",
    "pgvector-naive": "postgres:NaivePgvector",
    "pgvector-hnsw": "postgres:SharedHnsw",
    "qdrant-edge": "stores:QdrantEdge",
    "lancedb": "stores:LanceDb",
    "chroma": "stores:Chroma",
    "sqlite-vec": "stores:SqliteVec",
    "legacy": "legacy:LegacyRecognizer",
}


def peer(name: str) -> Peer:
    """Return a new engine. Raises ImportError if its package is not installed (extra `bench`)."""
    module, kind = PEERS[name].split(":")
    made: Peer = getattr(import_module(f"benchmarks.search.peers.{module}"), kind)()
    return made
