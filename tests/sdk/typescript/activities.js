// SPDX-License-Identifier: MIT
// The activities that the worker of main.js runs.
'use strict';

const {
  activityInfo, ApplicationFailure, CompleteAsyncError, Context, heartbeat, sleep,
} = require('@temporalio/activity');

// Task tokens of activities that are completed elsewhere, by a key that the test chose.
const asyncTokens = new Map();

module.exports = {
  asyncTokens,
  activities: {
    async echo(value) {
      return `echo ${value}`;
    },

    async failUntil(goodFrom, type, nonRetryable) {
      const { attempt } = activityInfo();
      if (goodFrom && attempt >= goodFrom) return attempt;
      throw ApplicationFailure.create({ message: `attempt ${attempt}`, type, nonRetryable });
    },

    async beatThenFail() {
      const { attempt, heartbeatDetails } = activityInfo();
      if (attempt > 1) return heartbeatDetails;
      heartbeat('half way');
      throw new Error('again');
    },

    async hang() {
      heartbeat('last words');
      await sleep(15000).catch(() => undefined);
    },

    async beatUntilCanceled() {
      const beating = setInterval(() => heartbeat(), 100);
      try {
        await Context.current().cancelled;
      } finally {
        clearInterval(beating);
      }
    },

    async completeElsewhere(key) {
      asyncTokens.set(key, activityInfo().taskToken);
      throw new CompleteAsyncError();
    },
  },
};
