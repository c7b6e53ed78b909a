"""The ground that everything stands on: ids, clock, errors, tasks, logs. Nothing here knows what Ringfence does."""
