"""What each kind of entity looks like, one family a module: patterns for RE2, checks, context words, and examples.

Type names follow Presidio's where it has one, so that people can move over.
"""
