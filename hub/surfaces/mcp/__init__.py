"""MCP in both eras, over HTTP, HTTP+SSE and standard streams."""
