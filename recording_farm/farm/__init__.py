"""The farm: everything that turns a request for a recording into finished files.

Its records and queues in Redis, the workers that record and upload, storage, webhooks and the command line.
"""
