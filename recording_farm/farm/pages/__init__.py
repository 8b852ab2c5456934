"""How a page is opened: its URL, tokens and watermark."""
