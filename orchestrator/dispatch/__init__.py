"""A request's life: admit, prepare, decide, run, deliver. Knows no HTTP and no SQL."""
