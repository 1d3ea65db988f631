"""A run as an RO-Crate of the Workflow Run Crate profile, which registries and other groups read."""
