-- SPDX-License-Identifier: MIT
-- persistence/mysql, version 1.

-- The rows.  k: table (1 byte), length of the partition (1), partition, row; the order of its bytes is the
-- order of rows.
CREATE TABLE IF NOT EXISTS tenon_kv (
  k VARBINARY(1166) NOT NULL,
  ver BIGINT UNSIGNED NOT NULL,
  val LONGBLOB NOT NULL,
  PRIMARY KEY (k)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Who gives versions in a partition: a writer takes all up to the ceiling for itself.
CREATE TABLE IF NOT EXISTS tenon_partition (
  part VARBINARY(64) NOT NULL,
  lane BIGINT UNSIGNED NOT NULL,
  ceiling BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (part)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- The writers: seq is of the last transaction that was committed, epoch of the connection that may.
CREATE TABLE IF NOT EXISTS tenon_lane (
  id BIGINT UNSIGNED NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id)
) ENGINE=InnoDB;
