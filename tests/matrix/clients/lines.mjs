// What the Node programs have in common: commands in, answers and events out, one JSON per line.
// The lines are told in tests/matrix/programs.py.
import { createInterface } from 'node:readline';

/** A module of what scripts/node-tools.txt names. */
export function tool(path) {
  return import(new URL(`../../../.tools/node_modules/${path}`, import.meta.url));
}

export const LISTED = {
  tools: { call: 'listTools', items: 'tools', key: 'name' },
  resources: { call: 'listResources', items: 'resources', key: 'uri' },
  resource_templates: {
    call: 'listResourceTemplates',
    items: 'resourceTemplates',
    key: 'uriTemplate',
  },
  prompts: { call: 'listPrompts', items: 'prompts', key: 'name' },
};

const DECLARED = {
  elicitation: { form: {}, url: {} },
  form: { form: {} },
  sampling: {},
  roots: { listChanged: true },
};

export function say(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

/** Client capabilities by the names that a test declares. */
export function capabilities(names) {
  return Object.fromEntries(
    names.map((name) => [name === 'form' ? 'elicitation' : name, DECLARED[name]]),
  );
}

/** One client; subclasses know how their SDK hears of questions and asks for changes. */
export class Connection {
  constructor(name, client) {
    this.name = name;
    this.client = client;
    this.answers = {};
    this.meta = undefined;
  }

  tell(event, method, params) {
    say({ connection: this.name, event, method, params: params ?? {} });
  }

  /** The answer prepared for a question of the server; the last one is used again. */
  answer(method, params) {
    this.tell('asked', method, params);
    const prepared = this.answers[method] ?? [];
    if (prepared.length === 0) throw new Error('nothing prepared');
    return prepared.length > 1 ? prepared.shift() : prepared[0];
  }

  async list({ kind, cursor }) {
    const { call, items, key } = LISTED[kind];
    const found = [];
    let pages = 0;
    do {
      // Without parameters, version 2 walks the pages itself and keeps them: a cursor asks for one.
      const page = await this.page(call, cursor);
      pages += 1;
      found.push(...page[items]);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return { names: found.map((one) => one[key]), pages, definitions: found };
  }

  page(call, cursor) {
    return this.client[call](cursor === undefined ? undefined : { cursor });
  }

  async call({ name, arguments: given }, signal) {
    const onprogress = (progress) =>
      this.tell('notified', 'notifications/progress', progress);
    return await this.callTool({ name, arguments: given, _meta: this.meta }, { onprogress, signal });
  }

  read({ uri }) {
    return this.client.readResource({ uri });
  }

  prompt({ name, arguments: given }) {
    return this.client.getPrompt({ name, arguments: given });
  }

  complete({ prompt, argument, value }) {
    const ref = { type: 'ref/prompt', name: prompt };
    return this.client.complete({ ref, argument: { name: argument, value } });
  }

  async log_level({ level }) {
    await this.client.setLoggingLevel(level);
    return {};
  }

  async watch({ uris }) {
    for (const uri of uris) await this.client.subscribeResource({ uri });
    return {};
  }

  async roots_changed() {
    await this.client.sendRootsListChanged();
    return {};
  }

  async close() {
    await this.client.close();
    return {};
  }
}

/** Obey until standard input ends. `connect` makes a Connection of a command. */
export function obey(connect) {
  const connections = new Map();
  const running = new Map();

  async function done(command, signal) {
    if (command.do === 'connect') {
      const connection = await connect(command);
      connections.set(command.connection, connection);
      const client = connection.client;
      return {
        revision: connection.revision(),
        instructions: client.getInstructions(),
        capabilities: client.getServerCapabilities(),
      };
    }
    if (command.do === 'cancel') {
      running.get(command.target).abort();
      return {};
    }
    const connection = connections.get(command.connection);
    if (command.do === 'answers') {
      connection.answers = command.answers;
      return {};
    }
    return await connection[command.do](command, signal);
  }

  async function answer(command) {
    const aborting = new AbortController();
    running.set(command.id, aborting);
    try {
      say({ id: command.id, result: await done(command, aborting.signal) });
    } catch (error) {
      const { code, message, data } = error;
      say({ id: command.id, error: { code, message, data, kind: error.constructor.name } });
    }
    running.delete(command.id);
  }

  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => void answer(JSON.parse(line)));
  lines.on('close', () => process.exit(0));
}
