"""Storage backends: the farm's own store and customers' storage."""

import logging

# These libraries log requests with their signatures, which grant access.
for _library in ("azure", "boto3", "botocore", "google", "paramiko", "requests", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
