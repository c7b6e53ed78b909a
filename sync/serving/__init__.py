"""The life of a request, once, for hub and site."""
