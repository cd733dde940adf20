"""What is extracted: dataset kinds, their manifests, and how a node's JSON becomes rows. Pure."""
