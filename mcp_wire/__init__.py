"""What both edges of MCP share: revisions, codes, message shapes, header and SSE codecs.

Pure functions and value types; nothing here opens a socket or knows the hub.
"""
