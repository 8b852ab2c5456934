"""The API in this process, and who asks it."""
