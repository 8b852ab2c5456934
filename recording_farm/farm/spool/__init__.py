"""The spool: takes of recordings that are not finished, and the files that wait to be uploaded."""
