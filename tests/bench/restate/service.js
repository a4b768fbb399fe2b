// SPDX-License-Identifier: MIT
// The service behind Restate: a handler that does nothing, and one with a single durable step.
//   node service.js PORT
'use strict';

// The SDK wants this of newer runtimes; Node.js 20 has it not.
Promise.withResolvers ??= function withResolvers() {
  const out = {};
  out.promise = new this((resolve, reject) => Object.assign(out, { resolve, reject }));
  return out;
};

const http2 = require('node:http2');
const restate = require('@restatedev/restate-sdk');

const bench = restate.service({
  name: 'Bench',
  handlers: {
    noop: async (ctx, input) => input,
    activity: async (ctx, input) => ctx.run('a', () => input),
  },
});

const handler = restate.createEndpointHandler({ services: [bench] });
http2.createServer(handler).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
