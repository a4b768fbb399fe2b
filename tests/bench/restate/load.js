// SPDX-License-Identifier: MIT
// Calls a handler n times with c callers at once and prints throughput and latency as JSON.
//   node load.js INGRESS_PORT HANDLER N C
'use strict';

const http = require('node:http');

const [port, handler, n, c] = process.argv.slice(2).map((word) => (/^\d+$/.test(word) ? Number(word) : word));
const agent = new http.Agent({ keepAlive: true, maxSockets: c });
const body = JSON.stringify('x'.repeat(126));

function call() {
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        host: '127.0.0.1', port, path: `/Bench/${handler}`, method: 'POST', agent,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        response.resume();
        response.on('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)));
      }
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function main() {
  const times = [];
  let left = n;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: c }, async () => {
      while (left-- > 0) {
        const at = performance.now();
        await call();
        times.push(performance.now() - at);
      }
    })
  );
  const elapsed = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({ per_s: n / elapsed, p50_ms: times[Math.floor(times.length / 2)] }));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
