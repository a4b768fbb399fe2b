// SPDX-License-Identifier: MIT
// The workflows that the worker of main.js runs, in the SDK's sandbox.
'use strict';

const wf = require('@temporalio/workflow');

const once = { maximumAttempts: 1 };

function call(options) {
  return wf.proxyActivities({ startToCloseTimeout: '20s', retry: once, ...options });
}

async function hello(name) {
  return call({}).echo(name);
}

async function retried(goodFrom, maximumAttempts, type, nonRetryable) {
  const retry = {
    initialInterval: '100ms', backoffCoefficient: 1, maximumAttempts,
    nonRetryableErrorTypes: ['Never'],
  };
  return call({ retry }).failUntil(goodFrom, type, nonRetryable);
}

async function resumesFromHeartbeat() {
  return call({ retry: { initialInterval: '100ms', maximumAttempts: 2 } }).beatThenFail();
}

// Runs the hanging activity under one of the four time-outs, and tells which it met.
async function timesOut(which) {
  const limits = {
    START_TO_CLOSE: { startToCloseTimeout: '1s' },
    SCHEDULE_TO_CLOSE: { scheduleToCloseTimeout: '1s' },
    SCHEDULE_TO_START: { scheduleToStartTimeout: '1s', taskQueue: `nobody-${wf.workflowInfo().workflowId}` },
    HEARTBEAT: { heartbeatTimeout: '1s' },
  }[which];
  try {
    await call(limits).hang();
  } catch (error) {
    return [error.cause.timeoutType, error.cause.lastHeartbeatDetails];
  }
  return ['none'];
}

async function completedElsewhere(key) {
  return call({}).completeElsewhere(key);
}

const add = wf.defineSignal('add');
const end = wf.defineSignal('end');
const items = wf.defineQuery('items');
const broken = wf.defineQuery('broken');

async function waiting() {
  const got = [];
  let ended = false;
  wf.setHandler(add, (value) => void got.push(value));
  wf.setHandler(end, () => void (ended = true));
  wf.setHandler(items, () => got);
  wf.setHandler(broken, () => {
    throw new Error('query on fire');
  });
  await wf.condition(() => ended);
  return got;
}

async function timers() {
  await wf.sleep('300ms');
  const scope = new wf.CancellationScope();
  const long = scope.run(() => wf.sleep('1h'));
  await wf.sleep(10);
  scope.cancel();
  let canceled = false;
  try {
    await long;
  } catch (error) {
    canceled = wf.isCancellation(error);
  }
  return [canceled, await wf.condition(() => false, '200ms')];
}

async function parent(kind, workflowId, parentClosePolicy) {
  let handle;
  try {
    handle = await wf.startChild(kind, { workflowId, args: ['kid'], parentClosePolicy });
  } catch (error) {
    return `not started: ${error.name}`;
  }
  if (parentClosePolicy) return handle.firstExecutionRunId;
  try {
    return await handle.result();
  } catch (error) {
    return `failed: ${error.cause.message}`;
  }
}

async function fails() {
  throw wf.ApplicationFailure.create({ message: 'on purpose', type: 'Purpose', details: ['detail'] });
}

async function failsUntil(goodFrom) {
  const { attempt } = wf.workflowInfo();
  if (attempt < goodFrom) throw wf.ApplicationFailure.create({ message: `attempt ${attempt}` });
  return attempt;
}

// Waits for its activity to notice the cancellation, cleans up, and ends canceled.
async function cancelable() {
  try {
    await call({
      startToCloseTimeout: '60s', heartbeatTimeout: '5s',
      cancellationType: wf.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }).beatUntilCanceled();
  } catch (error) {
    await wf.CancellationScope.nonCancellable(() => call({}).echo('cleanup'));
    throw error;
  }
}

async function reaches(target, what) {
  const handle = wf.getExternalWorkflowHandle(target);
  try {
    await (what === 'signal' ? handle.signal(add, 'from outside') : handle.cancel());
  } catch (error) {
    return 'refused';
  }
  return 'done';
}

async function again(left) {
  if (left > 0) await wf.continueAsNew(left - 1);
  return wf.workflowInfo().continuedFromExecutionRunId !== undefined;
}

async function sleeps() {
  await wf.sleep('1m');
}

// A patch, a local activity, and values that must be the same under replay.
async function markers() {
  const local = wf.proxyLocalActivities({
    startToCloseTimeout: '5s', retry: { initialInterval: '10ms', maximumAttempts: 3 },
  });
  const id = wf.uuid4();
  const patched = wf.patched('change');
  const out = [patched, await local.echo('local'), await local.failUntil(2, 'x', false)];
  await wf.sleep(20);
  return [...out, id.length];
}

async function upserts() {
  wf.upsertSearchAttributes({ SdkKeyword: ['ts'], SdkInt: [42] });
  wf.upsertMemo({ added: 3, gone: null });
  return wf.workflowInfo().memo;
}

// Waits for three signals, with an activity after each; used without a cache.
async function steps() {
  const got = [];
  wf.setHandler(add, (value) => void got.push(value));
  wf.setHandler(items, () => got);
  for (let i = 1; i <= 3; i++) {
    await wf.condition(() => got.length >= i);
    await call({}).echo(got[i - 1]);
  }
  return got;
}

module.exports = {
  hello, retried, resumesFromHeartbeat, timesOut, completedElsewhere, waiting, timers, parent, fails,
  failsUntil, cancelable, reaches, again, sleeps, markers, upserts, steps,
};
