// The TypeScript SDK's client, version 2, in the era it is told to.
import { Connection, capabilities, obey, tool } from './lines.mjs';

const { Client, StreamableHTTPClientTransport } = await tool(
  '@modelcontextprotocol/client/dist/index.mjs',
);

const MODERN = '2026-07-28';
const LOG_LEVEL = 'io.modelcontextprotocol/logLevel';
const QUESTIONS = {
  elicitation: 'elicitation/create',
  sampling: 'sampling/createMessage',
  roots: 'roots/list',
};

class Version2 extends Connection {
  get isModern() {
    return this.client.getProtocolEra() === 'modern';
  }

  revision() {
    return this.client.getNegotiatedProtocolVersion();
  }

  page(call, cursor) {
    return this.client[call](cursor === undefined ? undefined : { cursor }, {
      cacheMode: 'refresh',
    });
  }

  callTool(params, options) {
    return this.client.callTool(params, options);
  }

  read({ uri }) {
    return this.client.readResource({ uri }, { cacheMode: 'refresh' });
  }

  async log_level(command) {
    if (!this.isModern) return await super.log_level(command);
    this.meta = { [LOG_LEVEL]: command.level };
    return {};
  }

  async watch(command) {
    if (!this.isModern) return await super.watch(command);
    await this.client.listen({ toolsListChanged: true, resourceSubscriptions: command.uris });
    return {};
  }
}

obey(async ({ connection: name, url, era, headers, declares }) => {
  const declared = capabilities(declares);
  const client = new Client(
    { name: 'matrix', version: '2' },
    {
      capabilities: declared,
      versionNegotiation: { mode: era === 'modern' ? { pin: MODERN } : 'legacy' },
    },
  );
  const connection = new Version2(name, client);
  for (const [capability, method] of Object.entries(QUESTIONS)) {
    if (capability in declared) {
      client.setRequestHandler(method, ({ params }) => connection.answer(method, params));
    }
  }
  client.fallbackNotificationHandler = async ({ method, params }) =>
    connection.tell('notified', method, params);
  await client.connect(
    new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
  );
  return connection;
});
