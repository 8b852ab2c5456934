"""The tests: `tests/farm`, `tests/api` and so on mirror the packages, `tests/end_to_end` runs whole farms."""
