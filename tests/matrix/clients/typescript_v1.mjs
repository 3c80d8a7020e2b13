// The TypeScript SDK's client, version 1, which knows the legacy era only.
import { Connection, capabilities, obey, tool } from './lines.mjs';

const sdk = (path) => tool(`@modelcontextprotocol/sdk/dist/esm/${path}`);
const { Client } = await sdk('client/index.js');
const { StreamableHTTPClientTransport } = await sdk('client/streamableHttp.js');
const { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } =
  await sdk('types.js');

const QUESTIONS = {
  elicitation: ElicitRequestSchema,
  sampling: CreateMessageRequestSchema,
  roots: ListRootsRequestSchema,
};

class Version1 extends Connection {
  revision() {
    return this.transport.protocolVersion;
  }

  callTool(params, options) {
    return this.client.callTool(params, undefined, options);
  }
}

obey(async ({ connection: name, url, headers, declares }) => {
  const declared = capabilities(declares);
  const client = new Client({ name: 'matrix', version: '1' }, { capabilities: declared });
  const connection = new Version1(name, client);
  for (const [capability, schema] of Object.entries(QUESTIONS)) {
    if (capability in declared) {
      client.setRequestHandler(schema, ({ method, params }) => connection.answer(method, params));
    }
  }
  client.fallbackNotificationHandler = async ({ method, params }) =>
    connection.tell('notified', method, params);
  connection.transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers },
  });
  await client.connect(connection.transport);
  return connection;
});
