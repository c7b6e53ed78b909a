"""What goes out to sites: bundles, models and releases as packages, and the waves of a rollout."""
