"""Galleries, people, faces, references and search. Every SQL statement about them is here."""
