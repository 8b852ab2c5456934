"""The API's documentation: its OpenAPI document and page."""
