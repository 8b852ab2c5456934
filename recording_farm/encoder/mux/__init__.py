"""Writes finished files whose content is known before their head: MP4 and WebM with the index in front."""
