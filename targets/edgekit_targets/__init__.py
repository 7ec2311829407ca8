"""Device profiles, one TOML file each; found through the entry-point group `edgekit.targets`."""
