"""Progressive upload: the finished file is cut and uploaded while the recording runs."""
