"""An upstream on a framework that nobody here wrote, over stdio."""

from fastmcp import FastMCP

server = FastMCP("fastmcp")


@server.tool
def shout(text: str) -> str:
    """Say it in capitals."""
    return text.upper()


if __name__ == "__main__":
    server.run(show_banner=False)
