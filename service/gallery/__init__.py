"""People, faces, references and search: every SQL statement about them."""
