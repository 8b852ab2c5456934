"""The spool: takes of unfinished recordings, and finished files that wait for their upload."""
