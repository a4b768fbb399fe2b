-- SPDX-License-Identifier: MIT
-- visibility/mysql, version 2: how many runs there are of each kind, so that counts by division, type and status need not
-- visit them.  In 16 shares, by connection, so that writers seldom wait for each other; share 255 is what was there
-- before.  kind: a digest of the other columns, which may be NULL or too long for a key.  Servers of the
-- version before must be stopped while this runs.
CREATE TABLE IF NOT EXISTS tenon_vis_tally (
  ns INT UNSIGNED NOT NULL,
  kind BINARY(16) NOT NULL,
  share TINYINT UNSIGNED NOT NULL,
  part TINYINT UNSIGNED NOT NULL,
  status VARBINARY(100),
  type VARBINARY(1000),
  division VARBINARY(1000),
  n BIGINT NOT NULL,
  PRIMARY KEY (ns, kind, share)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Both again when they were interrupted.
DELETE FROM tenon_vis_tally;

INSERT INTO tenon_vis_tally (ns, kind, share, part, status, type, division, n)
SELECT ns, UNHEX(MD5(CONCAT_WS('|', part, IFNULL(HEX(status), '-'), IFNULL(HEX(type), '-'),
  IFNULL(HEX(division), '-')))), 255, part, status, type, division, COUNT(*)
FROM tenon_vis_run GROUP BY ns, part, status, type, division;
