"""Messages: addresses, content, attachments, templates and MIME. No I/O but for attachments."""
