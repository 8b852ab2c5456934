"""The recorder: one recording from the first page to the last take, without Redis."""
