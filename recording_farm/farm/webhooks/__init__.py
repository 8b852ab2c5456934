"""Webhooks: who gets which event, deliveries, their order, signatures and log."""
