"""GraphiQL, served by ourselves.

`page/` holds its sources, for npm and Vite; `build.py` makes `static/` of them, which is packaged but not committed;
`routes.py` serves that, or a page that says how to make it.
"""
