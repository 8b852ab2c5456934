"""The project's image, without a container engine."""
