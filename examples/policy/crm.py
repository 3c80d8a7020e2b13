"""The upstream of this example: a customer database with more in it than everybody should see."""

import argparse
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel

READ_ONLY = ToolAnnotations(read_only_hint=True)
LEAKED = "AKIA" + "EXAMPLEKEY234567"
"""Looks like an access key, and is none."""

crm = MCPServer[Any]("crm", instructions="Customers, reports and logs.", log_level="ERROR")


class Customer(BaseModel):
    """One customer."""

    number: int
    name: str
    email: str
    card: str


@crm.tool(annotations=READ_ONLY)
def get_customer(number: int) -> Customer:
    """A customer by number."""
    return Customer(
        number=number, name="Ada King", email="ada@example.com", card="4111 1111 1111 1111"
    )


@crm.tool(annotations=READ_ONLY)
def run_report(query: str) -> str:
    """Run a query over all customers; it takes a while, and somebody pays for it."""
    return f"3 rows for: {query}"


@crm.tool(annotations=READ_ONLY)
def read_log(line: int) -> str:
    """One line of the log."""
    return f"{line}: connected with {LEAKED}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    crm.run("streamable-http", host="127.0.0.1", port=parser.parse_args().port)
