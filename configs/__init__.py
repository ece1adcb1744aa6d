"""One YAML file for each training run that ships. Data only."""
