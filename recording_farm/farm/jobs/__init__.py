"""The jobs that RQ runs: record, finish, transfer, and delete what has expired."""
