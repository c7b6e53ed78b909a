"""The signed snapshot of all that a decision needs, and the patches from one to the next. Pure: no I/O, no clock."""
