// SPDX-License-Identifier: MIT
// The cases: what the TypeScript SDK must be able to do on a Temporal-compatible server.
'use strict';

const assert = require('node:assert/strict');
const {
  QueryNotRegisteredError, WorkflowExecutionAlreadyStartedError, WorkflowFailedError,
  WorkflowNotFoundError,
} = require('@temporalio/client');
const { CancelledFailure, TerminatedFailure, TimeoutFailure } = require('@temporalio/common');
const { asyncTokens } = require('./activities');

// The reason below a failed run's error.
async function failure(env, handle) {
  const error = await handle.result().then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(error instanceof WorkflowFailedError, String(error));
  return error.cause;
}

async function token(env, key) {
  await env.until('the async activity started', async () => asyncTokens.has(key));
  return asyncTokens.get(key);
}

module.exports = {
  'activity result': async (env) => assert.equal(await env.run('hello', 'ts'), 'echo ts'),
  'activity retried': async (env) => assert.equal(await env.run('retried', 3, 5, 'x', false), 3),

  async 'activity attempts run out'(env) {
    const cause = (await failure(env, await env.start('retried', 0, 2, 'Odd', false))).cause;
    assert.deepEqual([cause.message, cause.type], ['attempt 2', 'Odd']);
  },

  async 'activity not retryable'(env) {
    for (const args of [[0, 5, 'Odd', true], [0, 5, 'Never', false]]) {
      const cause = (await failure(env, await env.start('retried', ...args))).cause;
      assert.equal(cause.message, 'attempt 1');
    }
  },

  'heartbeat details reach the retry': async (env) =>
    assert.equal(await env.run('resumesFromHeartbeat'), 'half way'),

  async 'activity time-outs'(env) {
    const kinds = ['START_TO_CLOSE', 'SCHEDULE_TO_CLOSE', 'SCHEDULE_TO_START', 'HEARTBEAT'];
    const met = await Promise.all(kinds.map((kind) => env.run('timesOut', kind)));
    assert.deepEqual(met.map((m) => m[0]), kinds);
    assert.equal(met[3][1], 'last words');
  },

  async 'async completion by token'(env) {
    const key = env.id('async');
    const handle = await env.start('completedElsewhere', key);
    await env.client.activity.complete(await token(env, key), 'from elsewhere');
    assert.equal(await handle.result(), 'from elsewhere');
  },

  async 'async completion by id'(env) {
    const key = env.id('async');
    const handle = await env.start('completedElsewhere', key);
    await token(env, key);
    await env.client.activity.complete({ workflowId: handle.workflowId, activityId: '1' }, 'by id');
    assert.equal(await handle.result(), 'by id');
  },

  async 'signals and queries'(env) {
    const handle = await env.start('waiting');
    const sent = [];
    for (let i = 0; i < 10; i++) {
      sent.push(i);
      await handle.signal('add', i);
      assert.deepEqual(await handle.query('items'), sent);
    }
    await handle.signal('end');
    assert.deepEqual(await handle.result(), sent);
    assert.deepEqual(await handle.query('items'), sent);
  },

  async 'failing queries, signal to a closed run'(env) {
    const handle = await env.start('waiting');
    await assert.rejects(handle.query('broken'), /query on fire/);
    await assert.rejects(handle.query('none'), QueryNotRegisteredError);
    await handle.terminate();
    await assert.rejects(handle.signal('add', 1), WorkflowNotFoundError);
  },

  async 'signal with start'(env) {
    const workflowId = env.id('sws');
    const options = { workflowId, taskQueue: env.queue, signal: 'add' };
    const first = await env.client.workflow.signalWithStart('waiting', { ...options, signalArgs: [1] });
    const second = await env.client.workflow.signalWithStart('waiting', { ...options, signalArgs: [2] });
    assert.equal(first.signaledRunId, second.signaledRunId);
    env.track(workflowId, first.signaledRunId);
    await first.signal('end');
    assert.deepEqual(await first.result(), [1, 2]);
  },

  timers: async (env) => assert.deepEqual(await env.run('timers'), [true, false]),

  async children(env) {
    assert.equal(await env.run('parent', 'hello', env.id('child')), 'echo kid');
    assert.equal(await env.run('parent', 'fails', env.id('child')), 'failed: on purpose');
    const other = await env.start('waiting');
    assert.match(await env.run('parent', 'hello', other.workflowId), /not started: WorkflowExecutionAlreadyStarted/);
    await other.terminate();
  },

  async 'parent close policies'(env) {
    for (const [policy, status] of [['TERMINATE', 'TERMINATED'], ['REQUEST_CANCEL', 'CANCELLED'], ['ABANDON', 'RUNNING']]) {
      const child = env.id('left');
      await env.run('parent', 'sleeps', child, policy);
      const handle = env.client.workflow.getHandle(child);
      await env.until(`the child is ${status}`, async () => (await handle.describe()).status.name === status);
      if (policy === 'ABANDON') await handle.terminate();
    }
  },

  async 'external signal and cancel'(env) {
    const target = await env.start('waiting');
    assert.equal(await env.run('reaches', target.workflowId, 'signal'), 'done');
    await target.signal('end');
    assert.deepEqual(await target.result(), ['from outside']);
    assert.equal(await env.run('reaches', env.id('nobody'), 'signal'), 'refused');
    const other = await env.start('sleeps');
    assert.equal(await env.run('reaches', other.workflowId, 'cancel'), 'done');
    assert.ok((await failure(env, other)) instanceof CancelledFailure);
  },

  'continue as new': async (env) => assert.equal(await env.run('again', 3), true),

  async 'workflow retry'(env) {
    const retry = { initialInterval: '100ms', backoffCoefficient: 1, maximumAttempts: 3 };
    assert.equal(await (await env.startWith({ retry }, 'failsUntil', 3)).result(), 3);
    assert.equal((await failure(env, await env.startWith({ retry }, 'failsUntil', 9))).message, 'attempt 3');
  },

  async 'workflow failure'(env) {
    const cause = await failure(env, await env.start('fails'));
    assert.deepEqual([cause.message, cause.type, cause.details], ['on purpose', 'Purpose', ['detail']]);
  },

  async cancel(env) {
    const handle = await env.start('cancelable');
    await env.untilEvent(handle, 'activityTaskScheduledEventAttributes');
    await handle.cancel();
    assert.ok((await failure(env, handle)) instanceof CancelledFailure);
    assert.equal((await handle.describe()).status.name, 'CANCELLED');
  },

  async terminate(env) {
    const handle = await env.start('waiting');
    await handle.terminate('a reason');
    const cause = await failure(env, handle);
    assert.ok(cause instanceof TerminatedFailure && cause.message === 'a reason', String(cause));
    await assert.rejects(handle.terminate(), WorkflowNotFoundError);
  },

  async 'id policies'(env) {
    const workflowId = env.id('policy');
    await (await env.startWith({ workflowId }, 'hello', 'x')).result();
    await assert.rejects(
      env.startWith({ workflowId, workflowIdReusePolicy: 'REJECT_DUPLICATE' }, 'hello', 'x'),
      WorkflowExecutionAlreadyStartedError
    );
    const first = await env.startWith({ workflowId }, 'waiting');
    await assert.rejects(env.startWith({ workflowId }, 'waiting'), WorkflowExecutionAlreadyStartedError);
    const same = await env.startWith({ workflowId, workflowIdConflictPolicy: 'USE_EXISTING' }, 'waiting');
    assert.equal(same.firstExecutionRunId, first.firstExecutionRunId);
    const next = await env.startWith({ workflowId, workflowIdConflictPolicy: 'TERMINATE_EXISTING' }, 'waiting');
    assert.notEqual(next.firstExecutionRunId, first.firstExecutionRunId);
    await next.terminate();
  },

  async 'run time-out'(env) {
    const handle = await env.startWith({ workflowRunTimeout: '1s' }, 'sleeps');
    assert.ok((await failure(env, handle)) instanceof TimeoutFailure);
  },

  'patches and local activities': async (env) =>
    assert.deepEqual(await env.run('markers'), [true, 'echo local', 2, 36]),

  async 'memo and search attribute upserts'(env) {
    const handle = await env.startWith({ memo: { gone: 1 } }, 'upserts');
    assert.deepEqual(await handle.result(), { added: 3 });
    const query = `WorkflowId = '${handle.workflowId}' AND SdkKeyword = 'ts' AND SdkInt = 42`;
    await env.until(query, async () => (await env.client.workflow.count(query)).count === 1);
    assert.deepEqual((await handle.describe()).memo, { added: 3 });
  },

  async 'without a cache'(env) {
    const taskQueue = env.id('nocache');
    await env.withWorker({ taskQueue, maxCachedWorkflows: 0 }, async () => {
      const handle = await env.startWith({ taskQueue }, 'steps');
      for (const [i, value] of ['a', 'b', 'c'].entries()) {
        await handle.signal('add', value);
        assert.equal((await handle.query('items')).length, i + 1);
      }
      assert.deepEqual(await handle.result(), ['a', 'b', 'c']);
    });
  },

  async 'describe, list and count'(env) {
    const prefix = env.id('listed');
    const handles = [];
    for (let i = 0; i < 3; i++) handles.push(await env.startWith({ workflowId: `${prefix}-${i}` }, 'waiting'));
    const found = await handles[0].describe();
    assert.deepEqual([found.type, found.taskQueue, found.status.name], ['waiting', env.queue, 'RUNNING']);
    await handles[0].terminate();
    const all = `WorkflowId STARTS_WITH '${prefix}'`;
    const running = `${all} AND ExecutionStatus = 'Running'`;
    const count = async (query) => (await env.client.workflow.count(query)).count;
    await env.until('two of three run', async () => (await count(all)) === 3 && (await count(running)) === 2);
    const listed = [];
    for await (const row of env.client.workflow.list({ query: running })) listed.push(row.workflowId);
    assert.deepEqual(listed.sort(), [`${prefix}-1`, `${prefix}-2`]);
    for (const handle of handles.slice(1)) await handle.terminate();
  },
};
