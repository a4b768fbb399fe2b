// SPDX-License-Identifier: MIT
// The TypeScript SDK against a server: real scenarios, then a replay of every history they made.
//
//   node main.js --address HOST:PORT [--namespace NS] [--only WORD]
//
// One line a case, `typescript: N passed, N failed` at the end.
'use strict';

const { randomUUID } = require('node:crypto');
const { parseArgs } = require('node:util');
const { Client, Connection } = require('@temporalio/client');
const { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } = require('@temporalio/worker');
const { activities } = require('./activities');
const cases = require('./cases');

const CASE_LIMIT_MS = 60000;
const RUN_LIMIT_MS = 240000;
const AT_ONCE = 12;

let passed = 0;
let failed = 0;

function say(name, why) {
  if (why === undefined) {
    passed += 1;
    console.log(`ok ${name}`);
  } else {
    failed += 1;
    console.log(`not ok ${name}: ${String(why).replace(/\s+/g, ' ')}`);
  }
}

function close() {
  console.log(`typescript: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Env {
  constructor(namespace) {
    this.namespace = namespace;
    this.word = 'ts' + randomUUID().slice(0, 8);
    this.queue = this.word + '-queue';
    this.started = [];
  }

  async connect(address) {
    this.connection = await Connection.connect({ address });
    this.native = await NativeConnection.connect({ address });
    this.client = new Client({ connection: this.connection, namespace: this.namespace });
    this.bundle = await bundleWorkflowCode({
      workflowsPath: require.resolve('./workflows'), logger: new DefaultLogger('ERROR'),
    });
  }

  id(what) {
    return `${this.word}-${what}-${randomUUID().slice(0, 6)}`;
  }

  track(workflowId, runId) {
    this.started.push({ workflowId, runId });
  }

  start(kind, ...args) {
    return this.startWith({}, kind, ...args);
  }

  async startWith(options, kind, ...args) {
    const handle = await this.client.workflow.start(kind, {
      workflowId: this.id(kind), taskQueue: this.queue, args, ...options,
    });
    this.track(handle.workflowId, handle.firstExecutionRunId);
    return handle;
  }

  async run(kind, ...args) {
    return (await this.start(kind, ...args)).result();
  }

  async withWorker(options, play) {
    const worker = await Worker.create({
      connection: this.native, namespace: this.namespace, workflowBundle: this.bundle, activities,
      taskQueue: this.queue, shutdownGraceTime: 0, ...options,
    });
    await worker.runUntil(play);
  }

  async until(what, test) {
    for (const end = Date.now() + 20000; !(await test()); await pause(50)) {
      if (Date.now() > end) throw new Error(`not in time: ${what}`);
    }
  }

  async events(workflowId, runId) {
    return (await this.client.workflow.getHandle(workflowId, runId).fetchHistory()).events;
  }

  untilEvent(handle, attributes) {
    return this.until(attributes, async () => (await this.events(handle.workflowId)).some((e) => e[attributes]));
  }
}

async function runCase(env, name, play) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('not over in time')), CASE_LIMIT_MS);
  });
  try {
    await Promise.race([play(env), late]);
    say(name);
  } catch (error) {
    const where = /cases\.js:\d+/.exec(error.stack ?? '');
    say(name, `${error.name}: ${error.message} ${error.cause ?? ''} ${where ?? ''}`);
  } finally {
    clearTimeout(timer);
  }
}

// The runs that an event leads to: children, and next runs of the chain.
function followers(workflowId, event) {
  const child = event.childWorkflowExecutionStartedEventAttributes?.workflowExecution;
  if (child) return [{ workflowId: child.workflowId, runId: child.runId }];
  const next =
    event.workflowExecutionCompletedEventAttributes?.newExecutionRunId ||
    event.workflowExecutionFailedEventAttributes?.newExecutionRunId ||
    event.workflowExecutionTimedOutEventAttributes?.newExecutionRunId ||
    event.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
  return next ? [{ workflowId, runId: next }] : [];
}

// Every history that can be reached from what was started, through the SDK's replayer.
async function replay(env) {
  const todo = [...env.started];
  const seen = new Set();
  const histories = [];
  while (todo.length) {
    const { workflowId, runId } = todo.pop();
    if (seen.has(`${workflowId} ${runId}`)) continue;
    seen.add(`${workflowId} ${runId}`);
    const events = await env.events(workflowId, runId);
    for (const event of events) todo.push(...followers(workflowId, event));
    histories.push({ workflowId, history: { events } });
  }
  let bad = 0;
  for await (const result of Worker.runReplayHistories({ workflowBundle: env.bundle }, histories)) {
    if (result.error) {
      bad += 1;
      say(`replay of ${result.workflowId} ${result.runId}`, result.error);
    }
  }
  say(`replay of ${histories.length} histories`, bad || !histories.length ? `${bad} failed` : undefined);
}

async function prepare(env) {
  for (const [name, kind] of [['SdkKeyword', 2], ['SdkInt', 3]]) {
    try {
      await env.connection.operatorService.addSearchAttributes({
        namespace: env.namespace, searchAttributes: { [name]: kind },
      });
    } catch (error) {
      if (!/already exist/i.test(error.message)) console.log(`# cannot add search attribute ${name}: ${error.message}`);
    }
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      address: { type: 'string', default: '127.0.0.1:7233' },
      namespace: { type: 'string', default: 'default' },
      only: { type: 'string', default: '' },
    },
  });
  setTimeout(() => {
    say('the whole run', 'not over in time');
    close();
  }, RUN_LIMIT_MS).unref();
  Runtime.install({ logger: new DefaultLogger('ERROR', () => undefined) });
  const env = new Env(values.namespace);
  await env.connect(values.address);
  await prepare(env);
  const began = Date.now();
  const todo = Object.entries(cases).filter(([name]) => name.includes(values.only));
  await env.withWorker({}, async () => {
    const lanes = Array.from({ length: AT_ONCE }, async () => {
      for (let next = todo.shift(); next; next = todo.shift()) await runCase(env, ...next);
    });
    await Promise.all(lanes);
  });
  await runCase(env, 'replay', replay);
  console.error(`# ${((Date.now() - began) / 1000).toFixed(1)} s`);
  close();
}

main().catch((error) => {
  say('the whole run', error.stack);
  close();
});
