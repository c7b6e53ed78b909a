"""What runs here, for whichever hub asked: the check of each ticket, the run, its cache, erasure."""
