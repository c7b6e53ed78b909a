"""The models of one agent: models/<name>/<version>/, each with a manifest.

`folder` is what lies on disk, `trust` whom a model is from, `lifecycle` what of it is loaded; `adding` and `sources` bring new
ones in.
"""
