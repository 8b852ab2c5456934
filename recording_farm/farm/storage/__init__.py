"""Where files go: the places that the farm can put them to, its own store and its customers' storage."""

import logging

# What these libraries tell of their requests holds signatures, and with them whatever they allow.
for _library in ("azure", "boto3", "botocore", "google", "paramiko", "requests", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)
