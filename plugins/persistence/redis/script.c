/* SPDX-License-Identifier: MIT */
/* The Lua functions that run inside Redis.
 *
 * commit: decides and applies the members of a group in order.  Redis does not roll a script back, so
 * nothing may fail after the first write.  Redis itself sees to most of that: no memory, a replica, a
 * sick disk, too few replicas are refused at a script's first write, and once it has written they are not
 * asked again.  Whatever fails all the same is told as TNPART when something may have been written and as
 * TNNONE when nothing was.
 *
 *   KEYS  of each partition its counter; of each (partition, table) the hash of rows, then their order
 *   ARGV  number of members; of each member: index of its counter, conditions, mutations; of each
 *         condition: v|a|f, index of the hash, row, version; of each mutation: p, hash, row, value | d, hash, row |
 *         r, hash, first row, end row
 *   answers with a list: the 8 bytes of a version | {1, index, the row's bytes or nil} conflict | {2, index} fenced
 *
 * A version is the partition's counter, which never falls behind the server's clock in microseconds: should a
 * fail-over lose the newest writes, the versions they had are not given again.
 *
 * scan: rows of a range in order, consistent because a script runs alone.
 *   KEYS  hash, order      ARGV  reverse, low, high, rows, bytes, keys only
 *   answers with {1 when there is more, row, bytes, row, bytes, ...} */
#include "private.h"

const char *const rd_script_text[RD_SCRIPTS] = {
    [RD_SCRIPT_COMMIT] =
        "local K, A, n, i, out, dirty, last = KEYS, ARGV, #ARGV, 2, {}, false, {}\n"
        "if redis.replicate_commands then redis.replicate_commands() end\n"
        "local function write(...)\n"
        "  local r = redis.pcall(...)\n"
        "  if type(r) == 'table' and r.err then error(r.err, 0) end\n"
        "  dirty = true\n"
        "  return r\n"
        "end\n"
        "local function version(k)\n"
        "  local v = last[k]\n"
        "  if not v then\n"
        "    local t = redis.call('TIME')\n"
        "    v = math.max(tonumber(redis.call('GET', K[k]) or 0), t[1] * 1000000 + t[2])\n"
        "    write('SET', K[k], string.format('%.0f', v + tonumber(A[1])))\n"
        "  end\n"
        "  last[k] = v + 1\n"
        "  return struct.pack('>I8', v + 1)\n"
        "end\n"
        "local function conditions(nc)\n"
        "  local bad, row, fenced\n"
        "  for c = 0, nc - 1 do\n"
        "    local test = A[i]\n"
        "    if not fenced and (not bad or test == 'f') then\n"
        "      local now, holds = redis.call('HGET', K[tonumber(A[i + 1])], A[i + 2])\n"
        "      if test == 'a' then holds = not now\n"
        "      else holds = now and string.sub(now, 1, 8) == A[i + 3] end\n"
        "      if not holds and test == 'f' then fenced = c\n"
        "      elseif not holds then bad, row = c, now end\n"
        "    end\n"
        "    i = i + 4\n"
        "  end\n"
        "  if fenced then return {2, fenced} end\n"
        "  if bad then return {1, bad, row} end\n"
        "end\n"
        "local function mutation(v)\n"
        "  local verb, k, row = A[i], tonumber(A[i + 1]), A[i + 2]\n"
        "  if verb == 'p' then\n"
        "    if v and write('HSET', K[k], row, v .. A[i + 3]) == 1 then write('ZADD', K[k + 1], 0, "
        "row) end\n"
        "    i = i + 4\n"
        "  elseif verb == 'd' then\n"
        "    if v and write('HDEL', K[k], row) == 1 then write('ZREM', K[k + 1], row) end\n"
        "    i = i + 3\n"
        "  else\n"
        "    if v then\n"
        "      local low, high = '[' .. row, '(' .. A[i + 3]\n"
        "      local rows = redis.call('ZRANGEBYLEX', K[k + 1], low, high)\n"
        "      for c = 1, #rows, 4000 do\n"
        "        write('HDEL', K[k], unpack(rows, c, math.min(c + 3999, #rows)))\n"
        "      end\n"
        "      if #rows > 0 then write('ZREMRANGEBYLEX', K[k + 1], low, high) end\n"
        "    end\n"
        "    i = i + 4\n"
        "  end\n"
        "end\n"
        "local function member()\n"
        "  local counter, nc, nm = tonumber(A[i]), tonumber(A[i + 1]), tonumber(A[i + 2])\n"
        "  i = i + 3\n"
        "  local no = conditions(nc)\n"
        "  local v = not no and (nm > 0 and version(counter) or '')\n"
        "  for m = 1, nm do mutation(v) end\n"
        "  return no or v\n"
        "end\n"
        "while i <= n do\n"
        "  local ok, r = pcall(member)\n"
        "  if not ok then\n"
        "    if type(r) == 'table' then r = r.err end\n"
        "    return {err = (dirty and 'TNPART ' or 'TNNONE ') .. tostring(r)}\n"
        "  end\n"
        "  out[#out + 1] = r\n"
        "end\n"
        "return out\n",
    [RD_SCRIPT_SCAN] =
        "local low, high, limit, bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])\n"
        "local rows\n"
        "if ARGV[1] == '1' then\n"
        "  rows = redis.call('ZREVRANGEBYLEX', KEYS[2], high, low, 'LIMIT', 0, limit + 1)\n"
        "else\n"
        "  rows = redis.call('ZRANGEBYLEX', KEYS[2], low, high, 'LIMIT', 0, limit + 1)\n"
        "end\n"
        "local out, used, n = {0}, 0, math.min(#rows, limit)\n"
        "if #rows > limit then out[1] = 1 end\n"
        "for c = 1, n, 32 do\n"
        "  local values = redis.call('HMGET', KEYS[1], unpack(rows, c, math.min(c + 31, n)))\n"
        "  for j = 1, #values do\n"
        "    local v = values[j]\n"
        "    if v and ARGV[6] == '1' then v = string.sub(v, 1, 8) end\n"
        "    local size = v and #v or 0\n"
        "    if #out > 1 and used + size > bytes then out[1] = 1 return out end\n"
        "    used = used + size\n"
        "    out[#out + 1] = rows[c + j - 1]\n"
        "    out[#out + 1] = v\n"
        "  end\n"
        "end\n"
        "return out\n",
};
