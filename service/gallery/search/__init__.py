"""Search: the nearest people of a gallery by their best references. `search.py` is the only entry.

`plans` chooses the search plan by size and embedding space, `distances` derives the bounds on code distances, and
`statements` holds the SQL.
"""
