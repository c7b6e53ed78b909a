"""What tenants, models and sites are configured to be: from a YAML document to a bundle."""
