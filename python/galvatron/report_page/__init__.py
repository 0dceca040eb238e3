"""A plan, its program and its runs as one HTML page that asks nobody for anything (docs/report.md).

`inputs` reads files, `figures`, `arena` and `curves` make what is shown of them, the drawings make SVG, `page` one file.
"""
