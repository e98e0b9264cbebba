"""The SMTP and LMTP client: the only package that opens sockets to relays. No database here."""
