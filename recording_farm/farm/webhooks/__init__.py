"""Webhooks: receivers of each event, deliveries and their order, signatures, log."""
